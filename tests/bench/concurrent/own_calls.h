/* The benchmark's event, as the kernel side writes it: workload.h's Event has the same shape. */
#ifndef CULPRIT_BENCH_OWN_CALLS_H
#define CULPRIT_BENCH_OWN_CALLS_H

struct own_call {
	__u64 key[5];
	__u64 value;
	__u64 time_ns;
	__u64 spare;
};

#endif
