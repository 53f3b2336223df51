// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* OOM kills: one record for each victim the kernel chooses. Needs Linux 6.1 and BTF. */
#include "ring.bpf.h"

/* Since 6.10 (72ba14deb40a) the tracepoint passes the task; before that its pid. */
const volatile bool victim_is_task = true;
const volatile __u64 page_bytes = 4096;

static __always_inline struct culprit_oom_event *start_record(void **ring)
{
	struct culprit_oom_event *e = ring_reserve(CULPRIT_EVENT_OOM, sizeof(*e), ring);

	if (!e)
		return NULL;
	fill_task(&e->task);
	e->victim_cgroup_id = 0;
	e->anon_rss_bytes = 0;
	e->file_rss_bytes = 0;
	e->victim_tgid = 0;
	e->reserved = 0;
	__builtin_memset(e->victim_comm, 0, sizeof(e->victim_comm));
	return e;
}

static __always_inline void fill_victim(struct culprit_oom_event *e, struct task_struct *victim)
{
	struct mm_struct *mm = BPF_CORE_READ(victim, mm);

	e->victim_tgid = BPF_CORE_READ(victim, tgid);
	e->victim_cgroup_id = get_cgroup_id(victim);
	bpf_core_read_str(e->victim_comm, sizeof(e->victim_comm), &victim->comm);
	if (mm) {
		e->file_rss_bytes = get_rss_pages(mm, 0) * page_bytes;
		e->anon_rss_bytes = get_rss_pages(mm, 1) * page_bytes;
	}
}

/* Of a pid alone more is known when it is the current process: the usual case of a cgroup at its own limit. */
static __always_inline void fill_victim_pid(struct culprit_oom_event *e, int pid)
{
	struct task_struct *self = (struct task_struct *)bpf_get_current_task();

	if (pid == BPF_CORE_READ(self, pid) || pid == BPF_CORE_READ(self, tgid))
		fill_victim(e, self);
	else
		e->victim_tgid = pid;
}

SEC("tp_btf/mark_victim")
int on_oom_victim(__u64 *ctx)
{
	struct culprit_oom_event *e;
	void *ring;

	e = start_record(&ring);
	if (!e)
		return 0;
	if (victim_is_task)
		fill_victim(e, (struct task_struct *)ctx[0]);
	else
		fill_victim_pid(e, (int)ctx[0]);
	ring_submit(e, ring);
	return 0;
}

/* Where the one above is refused. The pid stands first in every version of the format. */
struct mark_victim_args {
	__u64 common;
	int pid;
};

SEC("tracepoint/oom/mark_victim")
int on_oom_classic(struct mark_victim_args *args)
{
	struct culprit_oom_event *e;
	void *ring;

	e = start_record(&ring);
	if (!e)
		return 0;
	fill_victim_pid(e, args->pid);
	ring_submit(e, ring);
	return 0;
}
