/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The maps whose updates may find no room, and values that only probes and sensor share. */
#ifndef CULPRIT_TABLES_H
#define CULPRIT_TABLES_H

#include "culprit_events.h"

enum culprit_table {
	CULPRIT_TABLE_WATCHED = 0,
	CULPRIT_TABLE_SCHED_TASKS = 1,
	CULPRIT_TABLE_SCHED_COUNTS = 2,
	CULPRIT_TABLE_SYSCALL_ERRORS = 3,
	CULPRIT_TABLE_CALL_STARTS = 4,
	CULPRIT_TABLE_TIMED_CALLS = 5,
	CULPRIT_TABLE_BLOCK_STARTS = 6,
	CULPRIT_TABLE_BLOCK_COUNTS = 7,
	CULPRIT_TABLE_TCP_OWNERS = 8,
	CULPRIT_TABLES
};

/* Flags of watched_tgids and watched_cgroups */
#define CULPRIT_WATCH_PAYLOAD 1
#define CULPRIT_WATCH_LOGS 2

#define CULPRIT_IGNORED_MAX 4	/* own processes whose system calls are not observed */

/* Who runs on a CPU, and since when (CLOCK_MONOTONIC). */
struct culprit_running {
	culprit_u64 since_ns;
	culprit_u32 tgid;
	culprit_u32 reserved;
};

#endif
