// magma ls PATH: a directory's entries, or one flare, as `ls -l` shows them.
#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "magma_tools/command.h"

namespace magma::tools {

namespace {

// More entries than this are shown as they come: nobody has the memory to sort them all.
constexpr std::size_t kSortedMax = 1'000'000;

struct Arguments {
  TargetOptions target;
  std::string path;
  bool is_long = true;  // -l is what we do anyway
  bool itself = false;
  bool json = false;
};

class Lister {
 public:
  Lister(const Arguments& arguments, Network& network)
      : arguments_(arguments),
        network_(network),
        output_(network.driver()),
        names_(system_names()),
        progress_(network.driver().clock()) {}

  int run(const std::string& path) {
    if (auto done = list(path); !done) {
      progress_.wipe();
      return failed("ls", done.error(), &output_);
    }
    return kDone;
  }

 private:
  Result<void> list(const std::string& path) {
    using Last = client::PathWalk::Last;
    TRY_VALUE(client::Flare flare,
              network_.resolve(path, arguments_.itself ? Last::keep : Last::follow));
    TRY(begin(flare));
    if (arguments_.itself || !S_ISDIR(flare.attr.mode)) {
      const std::string name = arguments_.json ? flare.path : path;
      TRY(show({.name = name, .attr = flare.attr, .target = flare.target}));
    } else {
      TRY(list_entries(flare));
    }
    TRY(end());
    return output_.flush();
  }

  Result<void> list_entries(const client::Flare& flare) {
    client::DirectoryReader reader(network_.tree(), flare, {});
    std::vector<client::ListedEntry> entries;
    bool is_last = false;
    while (!is_last) {
      TRY_VALUE(client::DirectoryBatch batch, network_.driver().await<client::DirectoryBatch>(
                                                  [&](client::Done<client::DirectoryBatch> done) {
                                                    reader.next(std::move(done));
                                                  }));
      is_last = batch.is_last;
      std::move(batch.entries.begin(), batch.entries.end(), std::back_inserter(entries));
      if (progress_.is_due()) progress_.show(fmt::format("{} entries", shown_ + entries.size()));
      if (is_sorted_ && entries.size() <= kSortedMax) continue;
      if (is_sorted_) {
        progress_.wipe();
        std::fprintf(stderr, "magma ls: more than %zu entries: not sorted\n", kSortedMax);
      }
      is_sorted_ = false;
      TRY(show_all(entries));
    }
    progress_.wipe();
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return show_all(entries);
  }

  Result<void> show_all(std::vector<client::ListedEntry>& entries) {
    for (const client::ListedEntry& entry : entries) TRY(show(entry));
    entries.clear();
    return {};
  }

  Result<void> begin(const client::Flare& flare) {
    if (!arguments_.json) return {};
    return output_.print(
        fmt::format("{{\"path\": {}, \"entries\": [", Json(json_text(flare.path)).dump()));
  }

  Result<void> show(const client::ListedEntry& entry) {
    const bool is_first = shown_++ == 0;
    if (!arguments_.json)
      return output_.line(client::listing_line(entry.name, entry.attr, entry.target, names_));
    Json json = {{"name", json_text(entry.name)}};
    if (json["name"] != entry.name) json["name_hex"] = to_hex(as_bytes(entry.name));
    json.update(attr_json(entry.attr));
    if (S_ISLNK(entry.attr.mode)) json["target"] = json_text(entry.target);
    return output_.print((is_first ? "\n  " : ",\n  ") + json.dump());
  }

  Result<void> end() {
    if (!arguments_.json) return output_.line(client::total_line(shown_));
    return output_.print(fmt::format("\n], \"total\": {}}}\n", shown_));
  }

  const Arguments& arguments_;
  Network& network_;
  Output output_;
  client::NameSource names_;
  Progress progress_;
  std::uint64_t shown_ = 0;
  bool is_sorted_ = true;
};

int ls(const Arguments& arguments) {
  Opened opened = open_network("ls", arguments.target, arguments.path);
  if (!opened.network) return opened.code;
  return Lister(arguments, *opened.network).run(opened.target.path);
}

}  // namespace

void add_ls(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("ls", "List a directory of the network, or one flare");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  add_target_options(*command, arguments->target);
  command->add_option("PATH", arguments->path, "Directory or file")->required();
  command->add_flag("-l", arguments->is_long, "Long lines, as always");
  command->add_flag("-d", arguments->itself,
                    "The flare itself, not what is in it or what a symlink leads to");
  command->add_flag("--json", arguments->json, "As JSON: path, entries, total");
  command->footer(
      "\nEach line has mode, owner, group, size and name, sorted by name; `.`, `..` and, in the\n"
      "root, the made-up directory .dht are among them. The last line counts them. Bytes of\n"
      "names that a terminal might obey are escaped. An absolute symlink begins at the\n"
      "network's root.\n"
      "Nobody's permissions are asked: who has the key sees all.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return ls(*arguments); }; });
}

}  // namespace magma::tools
