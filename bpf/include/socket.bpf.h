/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names of a TCP socket, from its sock_common: valid for full, request and time-wait sockets. */
#ifndef CULPRIT_SOCKET_BPF_H
#define CULPRIT_SOCKET_BPF_H

#include "ring.bpf.h"

static __always_inline void set_mapped(__u8 *to, __be32 address)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

/* sk may be any pointer to a socket; every read is checked by the kernel. */
static __always_inline void fill_socket(struct culprit_socket *to, const struct sock *sk, __u16 family)
{
	struct net *net = BPF_CORE_READ(sk, __sk_common.skc_net.net);

	to->sock = (__u64)sk;
	if (family == AF_INET) {
		set_mapped(to->local_addr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		set_mapped(to->remote_addr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else {
		bpf_core_read(to->local_addr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(to->remote_addr, 16, &sk->__sk_common.skc_v6_daddr);
	}
	to->netns = net ? BPF_CORE_READ(net, ns.inum) : 0;
	to->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (!to->local_port)	/* a full socket that has given its port back, on its way to CLOSE */
		to->local_port = bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
	to->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* The same of a full socket that the verifier knows (bpf_rdonly_cast). */
static __always_inline void fill_known_socket(struct culprit_socket *to, const struct sock *sk, __u16 family)
{
	const struct net *net = sk->__sk_common.skc_net.net;

	to->sock = (__u64)sk;
	if (family == AF_INET) {
		set_mapped(to->local_addr, sk->__sk_common.skc_rcv_saddr);
		set_mapped(to->remote_addr, sk->__sk_common.skc_daddr);
	} else {
		bpf_core_read(to->local_addr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(to->remote_addr, 16, &sk->__sk_common.skc_v6_daddr);
	}
	to->netns = net ? net->ns.inum : 0;
	to->local_port = sk->__sk_common.skc_num;
	if (!to->local_port)
		to->local_port = bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
	to->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
}

#endif
