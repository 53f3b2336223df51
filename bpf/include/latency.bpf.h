/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Adding to a struct culprit_latency in a per-CPU map. */
#ifndef CULPRIT_LATENCY_BPF_H
#define CULPRIT_LATENCY_BPF_H

#include "kernel.bpf.h"
#include "culprit_events.h"

/* Bucket i counts [2^i, 2^(i+1)) microseconds; 0 also below 1 us, the last also above. */
static __always_inline __u32 latency_bucket(__u64 ns)
{
	__u64 us = ns / 1000;
	__u32 bucket = 0;
	__u32 low;

	if (us >> 32)
		return CULPRIT_LATENCY_BUCKETS - 1;
	low = us;
	if (low >> 16) {
		bucket += 16;
		low >>= 16;
	}
	if (low >> 8) {
		bucket += 8;
		low >>= 8;
	}
	if (low >> 4) {
		bucket += 4;
		low >>= 4;
	}
	if (low >> 2) {
		bucket += 2;
		low >>= 2;
	}
	return bucket + (low >> 1);
}

static __always_inline void add_latency(struct culprit_latency *latency, __u64 ns)
{
	latency->count++;
	latency->sum_ns += ns;
	if (ns > latency->max_ns)
		latency->max_ns = ns;
	latency->buckets[latency_bucket(ns) & (CULPRIT_LATENCY_BUCKETS - 1)]++;
}

#endif
