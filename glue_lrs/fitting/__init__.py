"""Fits of sources, spatial profile and background to the rows of an image.

There are two fits, of the same model: data = sum_s F_s(r) P(c - t_s(r)) + background.

* That of optimal extraction (`row_fit`) is fast: an empirical profile is fitted once to the mean of
  a stack, then fluxes and background of each integration by sums over columns.
* That of `glue_lrs.measure` (`source_search`) separates blends, and gives positions and widths with
  their errors by the Fisher matrix of a profile with few parameters.

They share the modules at the bottom. From top to bottom, each imports from lower ones only:

=======================  ===========================================================  ============
module                   content                                                      fit
=======================  ===========================================================  ============
``row_fit``              `RowFitter`: fluxes of each integration, outliers, errors    extraction
``initial_sources``      sources and negative traces to start from                    extraction
``profile_fit``          `fit_profile`, `fit_traces`, `refine_positions`              extraction
``blend_fit``            joint fit of profile and positions of several sources        extraction
``spline_correction``    correction of a Gaussian profile                             extraction
``source_search``        `search_residuals`: detection, blends                        both
``engine``               Gauss-Newton fit of positions, width and shape               both
``source_model``         `SourceModel`: fluxes, variances and outliers row by row     both
``peaks``                `find_peaks`: extrema of the mean profile                    extraction
``trace_parameters``     positions, nods and trace polynomial                         extraction
``profile_derivatives``  profiles on pixels with derivatives                          extraction
``outliers``             outlier rejection                                            extraction
``noise_model``          variances for the weights, model error                       both
``least_squares``        linear least squares row by row, Gauss-Newton step           both
``cutout``               pixels of an image, mean of a stack, trace of the WCS        both
``source_fit``           `SourceFit`: profile and traces                              extraction
``options``              `FitOptions`                                                 extraction
=======================  ===========================================================  ============
"""
