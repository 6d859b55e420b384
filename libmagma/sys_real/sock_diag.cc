#include "libmagma/sys_real/sock_diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>

#include "libmagma/sys_real/fd.h"

namespace magma::sys_real {

namespace {

struct Question {
  nlmsghdr head;
  inet_diag_req_v2 body;
};
static_assert(sizeof(Question) == sizeof(nlmsghdr) + sizeof(inet_diag_req_v2));

// An IPv6 socket connected to an IPv4 address is found under AF_INET.
void put_ip(std::uint32_t (&field)[4], const sys::Address& address) {
  if (address.is_v4())
    std::memcpy(&field[0], address.ip.data() + 12, 4);
  else
    std::memcpy(&field[0], address.ip.data(), 16);
}

// Whether the answer's field holds that address, as IPv4 or as IPv4-mapped.
bool is_ip(const std::uint32_t (&field)[4], std::uint8_t family, const sys::Address& address) {
  std::uint8_t raw[16];
  std::memcpy(raw, &field[0], 16);
  if (family == AF_INET) return address.is_v4() && std::memcmp(raw, &address.ip[12], 4) == 0;
  return std::memcmp(raw, address.ip.data(), 16) == 0;
}

bool is_of(const inet_diag_msg& socket, const sys::Address& peer, const sys::Address& local) {
  const bool is_alive = socket.idiag_state == TCP_ESTABLISHED ||
                        socket.idiag_state == TCP_FIN_WAIT1 || socket.idiag_state == TCP_FIN_WAIT2;
  return is_alive && socket.idiag_inode != 0 && socket.id.idiag_sport == htons(peer.port) &&
         socket.id.idiag_dport == htons(local.port) &&
         is_ip(socket.id.idiag_src, socket.idiag_family, peer) &&
         is_ip(socket.id.idiag_dst, socket.idiag_family, local);
}

Question question_for(const sys::Address& peer, const sys::Address& local) {
  Question question{};
  question.head.nlmsg_len = sizeof question;
  question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.head.nlmsg_flags = NLM_F_REQUEST;  // not a dump: exactly this socket
  question.head.nlmsg_seq = 1;
  inet_diag_req_v2& body = question.body;
  body.sdiag_family = peer.is_v4() ? AF_INET : AF_INET6;
  body.sdiag_protocol = IPPROTO_TCP;
  body.idiag_states = ~0u;
  body.id.idiag_sport = htons(peer.port);
  body.id.idiag_dport = htons(local.port);
  put_ip(body.id.idiag_src, peer);
  put_ip(body.id.idiag_dst, local);
  body.id.idiag_cookie[0] = body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return question;
}

}  // namespace

Result<std::optional<std::uint32_t>> uid_of_tcp_peer(const sys::Address& peer,
                                                     const sys::Address& local) {
  if (peer.is_v4() != local.is_v4()) return std::nullopt;
  Fd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
  if (!netlink) return fail_errno("socket", "NETLINK_SOCK_DIAG");
  const Question question = question_for(peer, local);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(netlink.get(), &question, sizeof question, 0,
               reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0)
    return fail_errno("ask", "NETLINK_SOCK_DIAG");
  alignas(nlmsghdr) std::uint8_t answer[4096];
  const ssize_t got = ::recv(netlink.get(), answer, sizeof answer, 0);
  if (got < 0) return fail_errno("receive", "NETLINK_SOCK_DIAG");
  nlmsghdr head{};
  if (static_cast<std::size_t>(got) < sizeof head)
    return fail(Code::malformed, "NETLINK_SOCK_DIAG: short answer");
  std::memcpy(&head, answer, sizeof head);
  const std::size_t room = static_cast<std::size_t>(got) - sizeof head;
  if (head.nlmsg_type == NLMSG_ERROR && room >= sizeof(nlmsgerr)) {
    nlmsgerr error{};
    std::memcpy(&error, answer + sizeof head, sizeof error);
    // ENOENT: no such socket (or a kernel without tcp_diag, which cannot be told apart).
    if (error.error == -ENOENT) return std::nullopt;
    return fail(error_of_errno("ask", "NETLINK_SOCK_DIAG", -error.error));
  }
  if (head.nlmsg_type != SOCK_DIAG_BY_FAMILY || room < sizeof(inet_diag_msg))
    return fail(Code::malformed, "NETLINK_SOCK_DIAG: unexpected answer");
  inet_diag_msg socket{};
  std::memcpy(&socket, answer + sizeof head, sizeof socket);
  if (!is_of(socket, peer, local)) return std::nullopt;
  return socket.idiag_uid;
}

}  // namespace magma::sys_real
