// The telnet protocol (RFC 854) of one connection, by libtelnet: bytes from the peer become text
// and signals, text for the peer becomes bytes. No option is agreed on but ECHO on our side, while
// a key is being typed, so that the peer's terminal does not show it.
//
// A subnegotiation is refused before libtelnet sees it: no option that has one is ever agreed on,
// and it would be much code to show to strangers (libtelnet inflates MCCP2 unasked, for one).
#pragma once

#include <cstdint>
#include <string_view>

#include "libmagma/base/bytes.h"
#include "libmagma/base/owned.h"
#include "libmagma/base/unique_function.h"

struct telnet_t;
union telnet_event_t;

namespace magma::console {

class Telnet {
 public:
  enum class Signal : std::uint8_t {
    interrupt,        // IAC IP, BRK, ABORT, SUSP: as ^C
    end,              // IAC EOF: as ^D
    erase_character,  // IAC EC
    erase_line,       // IAC EL
    are_you_there,    // IAC AYT
    violation,        // not telnet as we speak it: the connection should end
  };
  struct Events {
    UniqueFunction<void(ByteSpan)> text;  // valid inside the call
    UniqueFunction<void(Signal)> signal;
    UniqueFunction<void(ByteSpan)> send;  // bytes for the peer
  };

  explicit Telnet(Events events);
  ~Telnet();
  Telnet(const Telnet&) = delete;
  Telnet& operator=(const Telnet&) = delete;

  // Everything is ignored after a violation.
  void receive(ByteSpan bytes);
  // Sends bytes as they are, IAC doubled.
  void send(ByteSpan bytes);
  // Whether the peer shall show what is typed.
  void show_typing(bool shown);

 private:
  struct FreeTelnet {
    void operator()(telnet_t* telnet) const noexcept;
  };
  enum class Place : std::uint8_t { data, command, option };  // in the peer's stream

  static void on_event(telnet_t* telnet, telnet_event_t* event, void* user) noexcept;
  bool begins_subnegotiation(std::uint8_t byte);
  void violation();

  Events events_;
  Place place_ = Place::data;
  bool is_shown_ = true;
  bool is_broken_ = false;
  std::unique_ptr<telnet_t, FreeTelnet> telnet_;
};

}  // namespace magma::console
