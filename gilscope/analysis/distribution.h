/* The distribution of many durations, and rows in groups. */
#ifndef GILSCOPE_ANALYSIS_DISTRIBUTION_H
#define GILSCOPE_ANALYSIS_DISTRIBUTION_H

#include <stdint.h>

/* Nearest-rank percentiles in ns; all zero where count is 0. */
struct gs_distribution {
    uint64_t count;
    int64_t sum, p50, p90, p99, max;
};

/* Reorders `values`. */
void gs_distribute(int64_t *values, uint64_t n, struct gs_distribution *out);

#endif
