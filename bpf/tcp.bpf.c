// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* TCP: listen, connect with its latency and failure, close, retransmits, resets. Needs Linux 6.1 and BTF. */
#include "socket.bpf.h"

/* Who began to connect or listen, and when; kept until the socket closes. */
struct owner {
	__u64 start_ns;	/* of SYN_SENT, 0 for listeners and finished connects */
	struct culprit_task task;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);	/* sock */
	__type(value, struct owner);
} tcp_owners SEC(".maps");

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_tcp_state, const struct sock *sk, int old_state, int new_state)
{
	struct culprit_tcp_state_event *e;
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	struct owner *owner, fresh;
	__u64 key = (__u64)sk;
	__u64 now;
	__u16 family;
	void *ring;

	if (new_state != CULPRIT_TCP_LISTEN && new_state != CULPRIT_TCP_SYN_SENT &&
	    new_state != CULPRIT_TCP_ESTABLISHED && new_state != CULPRIT_TCP_CLOSE)
		return 0;
	family = sk->__sk_common.skc_family;
	if (sk->sk_protocol != IPPROTO_TCP || (family != AF_INET && family != AF_INET6))
		return 0;
	/* listen and connect run in their caller's context */
	if (new_state == CULPRIT_TCP_LISTEN || new_state == CULPRIT_TCP_SYN_SENT) {
		fresh.start_ns = new_state == CULPRIT_TCP_SYN_SENT ? bpf_ktime_get_boot_ns() : 0;
		fill_task(&fresh.task);
		if (bpf_map_update_elem(&tcp_owners, &key, &fresh, BPF_ANY))
			count_full(CULPRIT_TABLE_TCP_OWNERS);
	}
	owner = bpf_map_lookup_elem(&tcp_owners, &key);
	e = ring_reserve(CULPRIT_EVENT_TCP_STATE, sizeof(*e), &ring);
	if (e) {
		now = e->header.time_ns;
		e->connect_ns = 0;
		if (owner) {
			e->task = owner->task;
			if (old_state == CULPRIT_TCP_SYN_SENT && owner->start_ns)
				e->connect_ns = now - owner->start_ns;
		} else {
			__builtin_memset(&e->task, 0, sizeof(e->task));
		}
		fill_socket(&e->socket, sk, family);
		e->old_state = old_state;
		e->new_state = new_state;
		e->error = sk->sk_err;
		e->positions[CULPRIT_READ] = BPF_CORE_READ(tp, copied_seq);
		e->positions[CULPRIT_WRITE] = BPF_CORE_READ(tp, write_seq);
		ring_submit(e, ring);
	}
	if (owner && new_state == CULPRIT_TCP_CLOSE)
		bpf_map_delete_elem(&tcp_owners, &key);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(on_tcp_retrans, const struct sock *sk)
{
	struct culprit_tcp_retransmit_event *e;
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	void *ring;

	if (!sk)
		return 0;
	e = ring_reserve(CULPRIT_EVENT_TCP_RETRANSMIT, sizeof(*e), &ring);
	if (!e)
		return 0;
	fill_socket(&e->socket, sk, sk->__sk_common.skc_family);
	e->state = sk->__sk_common.skc_state;
	e->srtt_us = BPF_CORE_READ(tp, srtt_us) >> 3;
	ring_submit(e, ring);
	return 0;
}

static __always_inline int report_reset(const struct sock *sk, __u32 received)
{
	struct culprit_tcp_reset_event *e;
	void *ring;

	if (!sk)	/* a segment for a port nobody listens on: the peer's connect failure says it */
		return 0;
	e = ring_reserve(CULPRIT_EVENT_TCP_RESET, sizeof(*e), &ring);
	if (!e)
		return 0;
	fill_socket(&e->socket, sk, sk->__sk_common.skc_family);
	e->state = sk->__sk_common.skc_state;
	e->received = received;
	ring_submit(e, ring);
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(on_tcp_rst_sent, const struct sock *sk)
{
	return report_reset(sk, 0);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(on_tcp_rst_recv, const struct sock *sk)
{
	return report_reset(sk, 1);
}
