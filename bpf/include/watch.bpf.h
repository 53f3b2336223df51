/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Watched processes and cgroups: whose payload and log lines may be captured. Shared by families. */
#ifndef CULPRIT_WATCH_BPF_H
#define CULPRIT_WATCH_BPF_H

#include "ring.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);	/* tgid */
	__type(value, __u32);	/* CULPRIT_WATCH_* */
} watched_tgids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u64);	/* cgroup v2 id */
	__type(value, __u32);
} watched_cgroups SEC(".maps");

#endif
