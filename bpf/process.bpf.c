// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Process life: exec, fork, exit. Children of watched processes become watched here. Needs Linux 6.1 and BTF. */
#include "watch.bpf.h"

#define CGROUP_LEVELS 8	/* ancestors of a cgroup that are asked whether they are watched */

/* Since 6.17 the exit tracepoint says whether the whole group is dead. */
const volatile bool exit_has_group_dead = false;

/* Groups whose end was reported: before 6.17 two threads may both see themselves as the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);	/* start time of the process */
	__type(value, __u32);	/* tgid */
} exited SEC(".maps");

static __always_inline void watch(__u32 tgid, __u32 flags)
{
	if (bpf_map_update_elem(&watched_tgids, &tgid, &flags, BPF_ANY))
		count_full(CULPRIT_TABLE_WATCHED);
}

/* Is this process in a watched cgroup, or below one? */
static __always_inline void watch_by_cgroup(__u32 tgid)
{
	__u32 flags = 0;
	__u32 *found;
	__u64 id;
	int level;

	for (level = 0; level < CGROUP_LEVELS; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		found = bpf_map_lookup_elem(&watched_cgroups, &id);
		if (found)
			flags |= *found;
	}
	if (!flags)
		return;
	found = bpf_map_lookup_elem(&watched_tgids, &tgid);
	watch(tgid, found ? *found | flags : flags);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct culprit_exec_event *e;
	__u64 uid_gid = bpf_get_current_uid_gid();
	const char *filename = bprm->filename;
	void *ring;

	watch_by_cgroup(task->tgid);
	e = ring_reserve(CULPRIT_EVENT_EXEC, sizeof(*e), &ring);
	if (!e)
		return 0;
	fill_task(&e->task);
	e->start_time_ns = task->group_leader->start_boottime;
	e->ppid = task->real_parent->tgid;
	e->uid = (__u32)uid_gid;
	__builtin_memset(e->filename, 0, sizeof(e->filename));
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), filename);
	ring_submit(e, ring);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct culprit_fork_event *e;
	__u32 tgid = parent->tgid;
	__u32 *flags;
	void *ring;

	if (child->pid != child->tgid)	/* a thread */
		return 0;
	flags = bpf_map_lookup_elem(&watched_tgids, &tgid);
	if (flags)
		watch(child->tgid, *flags);
	e = ring_reserve(CULPRIT_EVENT_FORK, sizeof(*e), &ring);
	if (!e)
		return 0;
	fill_task(&e->task);
	e->start_time_ns = child->start_boottime;
	e->child_tgid = child->tgid;
	e->reserved = 0;
	ring_submit(e, ring);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *leader;
	struct culprit_exit_event *e;
	__u32 tgid = task->tgid;
	__u64 start;
	void *ring;

	if (exit_has_group_dead ? !(ctx[1] & 0xff) : task->signal->live.counter != 0)
		return 0;	/* other threads go on */
	leader = task->group_leader;
	start = leader->start_boottime;
	if (!exit_has_group_dead && bpf_map_update_elem(&exited, &start, &tgid, BPF_NOEXIST))
		return 0;
	bpf_map_delete_elem(&watched_tgids, &tgid);
	e = ring_reserve(CULPRIT_EVENT_EXIT, sizeof(*e), &ring);
	if (!e)
		return 0;
	fill_task(&e->task);
	bpf_probe_read_kernel_str(e->task.comm, sizeof(e->task.comm), leader->comm);
	e->start_time_ns = start;
	e->ppid = leader->real_parent->tgid;
	e->exit_code = task->signal->flags & SIGNAL_GROUP_EXIT ? task->signal->group_exit_code :
								   leader->exit_code;
	ring_submit(e, ring);
	return 0;
}
