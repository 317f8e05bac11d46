"""Fits of sources, spatial profile and background to the rows of an image.

Two fits use the same model: data(r, c) = sum_s F_s(r) P(c - t_s(r)) + background, with the row r,
the column c, the flux F_s and the trace t_s of source s, and the profile P.

* The fit for optimal extraction (`row_fit`) is fast. It fits an empirical profile once to the mean
  of a stack of integrations, and then fluxes and background of each integration from sums over
  columns.
* The fit for `glue_lrs.measure` (`source_search`) separates blends. It uses a profile with few
  parameters, and derives the errors of positions and widths from their Fisher matrix.

The last column of the table says which of the two fits uses a module. A module imports only from
modules below it:

=======================  ===========================================================  ============
module                   content                                                      fit
=======================  ===========================================================  ============
``row_fit``              `RowFitter`: fluxes of each integration, outliers, errors    extraction
``initial_sources``      initial positions of sources and negative traces             extraction
``profile_fit``          `fit_profile`: profile and traces of all sources             extraction
``position_fit``         `refine_positions`: positions with a known profile           extraction
``source_search``        `search_residuals`: detection, blends                        both
``engine``               Gauss-Newton fit of positions, width and shape               both
``source_model``         `SourceModel`: fluxes, variances and outliers row by row     both
``peaks``                `find_peaks`: extrema of the mean profile                    extraction
``trace_parameters``     positions, nods and trace polynomial                         extraction
``outliers``             outlier rejection                                            extraction
``noise_model``          variances for the weights, model error                       both
``least_squares``        linear least squares row by row, Gauss-Newton step           both
``cutout``               pixels of an image, mean of a stack, trace from the WCS      both
``source_fit``           `SourceFit`: fitted profile and traces                       extraction
``options``              `FitOptions`                                                 extraction
=======================  ===========================================================  ============
"""
