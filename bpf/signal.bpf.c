// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Signals that stop, continue or end a process, and who sent them. Needs Linux 6.1 and BTF. */
#include "ring.bpf.h"

#define BIT(n) (1ULL << (n))
#define SIG_INT 2
#define SIG_QUIT 3
#define SIG_ABRT 6
#define SIG_BUS 7
#define SIG_KILL 9
#define SIG_SEGV 11
#define SIG_TERM 15
#define SIG_CONT 18
#define SIG_STOP 19

#define REPORTED (BIT(SIG_INT) | BIT(SIG_QUIT) | BIT(SIG_ABRT) | BIT(SIG_BUS) | BIT(SIG_KILL) | BIT(SIG_SEGV) | \
		  BIT(SIG_TERM) | BIT(SIG_CONT) | BIT(SIG_STOP))
/* Also reported when a process sends them to itself. */
#define REPORTED_TO_SELF (BIT(SIG_ABRT) | BIT(SIG_BUS) | BIT(SIG_KILL) | BIT(SIG_SEGV) | BIT(SIG_STOP))
#define TRACE_SIGNAL_IGNORED 1

SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal, int signal, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	struct culprit_signal_event *e;
	__u32 sender = bpf_get_current_pid_tgid() >> 32;
	void *ring;

	if ((__u32)signal > 31 || !(REPORTED & BIT(signal)))
		return 0;
	/* SIGCONT counts as ignored even when it has just continued a stopped process. */
	if (result == TRACE_SIGNAL_IGNORED && signal != SIG_CONT)
		return 0;
	if (sender == (__u32)task->tgid && !(REPORTED_TO_SELF & BIT(signal)))
		return 0;
	e = ring_reserve(CULPRIT_EVENT_SIGNAL, sizeof(*e), &ring);
	if (!e)
		return 0;
	fill_task(&e->task);
	/*
	 * 0 and 1 stand for "no information" (a process) and "the kernel" (SEND_SIG_PRIV); positive codes are
	 * faults and SI_KERNEL. As it may be such a number, the verifier takes it for one (since 6.12), so it is probed.
	 */
	if ((__u64)info == 1 || ((__u64)info > 1 && BPF_CORE_READ(info, si_code) > 0)) {
		e->task.tgid = 0;
		e->task.tid = 0;
		__builtin_memset(e->task.comm, 0, sizeof(e->task.comm));
	}
	e->target_tgid = task->tgid;
	e->signal = signal;
	bpf_probe_read_kernel_str(e->target_comm, sizeof(e->target_comm), task->group_leader->comm);
	ring_submit(e, ring);
	return 0;
}
