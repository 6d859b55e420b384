// magma locate PATH: key, slot and volcanoes of a flare, and of each chunk of a large file.
#include <algorithm>

#include <fmt/format.h>

#include "libmagma/client/file_table.h"
#include "libmagma/client/ring_words.h"
#include "libmagma/crypto/path_hash.h"
#include "magma_tools/command.h"

namespace magma::tools {

namespace {

struct Arguments {
  TargetOptions target;
  std::string path;
  bool json = false;
};

struct Place {
  ring::Key key;
  ring::Slot slot;
};

// Chunk n of a large file has a key of its own.
Place place_of_chunk(const client::Flare& flare, std::uint32_t chunk) {
  const ring::Key key = crypto::key_of_chunk(flare.key, chunk);
  return {key, key.slot()};
}

std::string volcanoes_text(const std::vector<client::Holder>& holders) {
  return holders.empty() ? "unknown" : client::holders_text(holders);
}

class Locator {
 public:
  Locator(const Arguments& arguments, Network& network)
      : arguments_(arguments), network_(network), output_(network.driver()) {}

  int run(const std::string& path) {
    auto done = locate(path);
    return done ? kDone : failed("locate", done.error(), &output_);
  }

 private:
  Result<void> locate(const std::string& path) {
    TRY_VALUE(client::Flare flare, network_.resolve(path, client::PathWalk::Last::keep));
    const std::uint64_t chunks =
        flare.attr.placement.in_chunks
            ? std::max<std::uint64_t>(
                  (flare.attr.size + client::kChunkBytes - 1) / client::kChunkBytes, 1)
            : 0;
    TRY(arguments_.json ? show_json(flare, chunks) : show_text(flare, chunks));
    return output_.flush();
  }

  Result<void> show_text(const client::Flare& flare, std::uint64_t chunks) {
    TRY(output_.line("path     " + client::printable(flare.path)));
    TRY(output_.line("key      " + flare.key.hex()));
    TRY(output_.line("slot     " + client::slot_text(flare.slot)));
    TRY(output_.line("volcano  " + volcanoes_text(network_.holders(flare.slot))));
    if (chunks == 0) return {};
    TRY(output_.line(fmt::format("home     {} {}", client::slot_text(ring::home_of(flare.attr.ino)),
                                 volcanoes_text(network_.holders(ring::home_of(flare.attr.ino))))));
    for (std::uint64_t i = 0; i < chunks; ++i) {
      const Place place = place_of_chunk(flare, static_cast<std::uint32_t>(i));
      TRY(output_.line(fmt::format("chunk {} {} {} {}", i, place.key.hex(),
                                   client::slot_text(place.slot),
                                   volcanoes_text(network_.holders(place.slot)))));
    }
    return {};
  }

  Result<void> show_json(const client::Flare& flare, std::uint64_t chunks) {
    Json json = {{"path", json_text(flare.path)}};
    add_place(json, {flare.key, flare.slot});
    json["home_slot"] = client::slot_text(ring::home_of(flare.attr.ino));
    json["in_chunks"] = chunks > 0;
    std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    text.pop_back();
    TRY(output_.print(text + ", \"chunks\": ["));
    for (std::uint64_t i = 0; i < chunks; ++i) {
      Json chunk = {{"chunk", i}};
      add_place(chunk, place_of_chunk(flare, static_cast<std::uint32_t>(i)));
      TRY(output_.print((i == 0 ? "\n  " : ",\n  ") + chunk.dump()));
    }
    return output_.print("]}\n");
  }

  void add_place(Json& json, const Place& place) {
    json["key"] = place.key.hex();
    json["slot"] = client::slot_text(place.slot);
    json["volcanoes"] = holders_json(network_.holders(place.slot));
  }

  const Arguments& arguments_;
  Network& network_;
  Output output_;
};

int locate(const Arguments& arguments) {
  Opened opened = open_network("locate", arguments.target, arguments.path);
  if (!opened.network) return opened.code;
  return Locator(arguments, *opened.network).run(opened.target.path);
}

}  // namespace

void add_locate(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("locate", "Tell which volcanoes hold a flare");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("PATH", arguments->path, "Any flare; a symlink is located itself")
      ->required();
  command->add_flag("--json", arguments->json,
                    "As JSON: path, key, slot, volcanoes, home_slot, in_chunks, chunks");
  command->footer(
      "\nOf a file in chunks (larger than the network's limit for small files) the home, which\n"
      "has its attributes, and each chunk of 64 MiB are told as well.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return locate(*arguments); }; });
}

}  // namespace magma::tools
