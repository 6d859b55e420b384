#include "magmad/console/telnet.h"

#include <libtelnet.h>

#include <memory>
#include <utility>

#include "libmagma/base/check.h"

namespace magma::console {

namespace {

// Options a peer may propose: none. (That we echo is our own proposal, show_typing; a peer that
// asks for it at another time would see nothing of what is typed.)
constexpr telnet_telopt_t kOptions[] = {{-1, 0, 0}};

bool is_option_command(std::uint8_t byte) { return byte >= TELNET_WILL && byte <= TELNET_DONT; }

}  // namespace

void Telnet::FreeTelnet::operator()(telnet_t* telnet) const noexcept { telnet_free(telnet); }

Telnet::Telnet(Events events)
    : events_(std::move(events)), telnet_(telnet_init(kOptions, &Telnet::on_event, 0, this)) {
  MAGMA_CHECK(telnet_ != nullptr);  // out of memory, as any new
}

Telnet::~Telnet() = default;

// Follows the commands of the stream just far enough to see IAC SB before libtelnet does.
bool Telnet::begins_subnegotiation(std::uint8_t byte) {
  switch (place_) {
    case Place::data:
      if (byte == TELNET_IAC) place_ = Place::command;
      return false;
    case Place::command:
      place_ = is_option_command(byte) ? Place::option : Place::data;
      return byte == TELNET_SB;
    case Place::option: place_ = Place::data; return false;
  }
  return false;
}

void Telnet::violation() {
  if (std::exchange(is_broken_, true)) return;
  events_.signal(Signal::violation);
}

void Telnet::receive(ByteSpan bytes) {
  if (is_broken_) return;
  std::size_t good = 0;
  while (good < bytes.size() && !begins_subnegotiation(bytes[good])) ++good;
  telnet_recv(telnet_.get(), reinterpret_cast<const char*>(bytes.data()), good);
  if (good < bytes.size()) violation();
}

void Telnet::send(ByteSpan bytes) {
  telnet_send(telnet_.get(), reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void Telnet::show_typing(bool shown) {
  if (std::exchange(is_shown_, shown) == shown) return;
  telnet_negotiate(telnet_.get(), shown ? TELNET_WONT : TELNET_WILL, TELNET_TELOPT_ECHO);
}

void Telnet::on_event(telnet_t*, telnet_event_t* event, void* user) noexcept {
  Telnet& self = *static_cast<Telnet*>(user);
  const auto bytes = [&] {
    return ByteSpan(reinterpret_cast<const std::uint8_t*>(event->data.buffer), event->data.size);
  };
  switch (event->type) {
    case TELNET_EV_DATA:
      if (!self.is_broken_) self.events_.text(bytes());
      break;
    case TELNET_EV_SEND: self.events_.send(bytes()); break;
    case TELNET_EV_IAC:
      if (self.is_broken_) break;
      switch (event->iac.cmd) {
        case TELNET_IP:
        case TELNET_BREAK:
        case TELNET_ABORT:
        case TELNET_SUSP: self.events_.signal(Signal::interrupt); break;
        case TELNET_EOF: self.events_.signal(Signal::end); break;
        case TELNET_EC: self.events_.signal(Signal::erase_character); break;
        case TELNET_EL: self.events_.signal(Signal::erase_line); break;
        case TELNET_AYT: self.events_.signal(Signal::are_you_there); break;
        default: break;  // NOP, DM, GA, AO: nothing to do
      }
      break;
    case TELNET_EV_ERROR:
    case TELNET_EV_COMPRESS:
    case TELNET_EV_SUBNEGOTIATION: self.violation(); break;
    case TELNET_EV_WILL:  // libtelnet answers by kOptions
    case TELNET_EV_WONT:
    case TELNET_EV_DO:
    case TELNET_EV_DONT:
    case TELNET_EV_ZMP:  // of subnegotiations: never reached
    case TELNET_EV_TTYPE:
    case TELNET_EV_ENVIRON:
    case TELNET_EV_MSSP:
    case TELNET_EV_WARNING: break;
  }
}

}  // namespace magma::console
