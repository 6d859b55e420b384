// magma dump DIR: every row of a stopped volcano's databases, decoded, one a line. For finding out
// what happened; magma fsck says whether it is right. Takes the directory's lock, changes nothing.
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "libmagma/base/file_locks.h"
#include "libmagma/sys_real/disk_posix.h"
#include "libmagma/wire/describe.h"
#include "magma_tools/command.h"
#include "magmad/store/database.h"
#include "magmad/store/metadata_store.h"

namespace magma::tools {

namespace {

using store::Table;
using ScanRow = store::MetadataStore::ScanRow;

struct Arguments {
  std::string directory;
  std::vector<std::string> tables;
  bool json = false;
  bool oplog = false;
};

// A struct's fields as a JSON object.
class JsonFields {
 public:
  template <class T>
  void operator()(const char* name, const T& value) {
    json_[name] = of(value);
  }
  template <class T>
  static Json of(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      return static_cast<std::underlying_type_t<T>>(value);
    } else if constexpr (std::is_arithmetic_v<T>) {
      return value;
    } else if constexpr (is_strong_v<T>) {
      return value.value;
    } else if constexpr (std::is_same_v<T, WallTime>) {
      return value.ns;
    } else if constexpr (std::is_same_v<T, std::string>) {
      return json_text(value);
    } else if constexpr (std::is_same_v<T, Bytes>) {
      return to_hex(value);
    } else if constexpr (std::is_same_v<T, ring::Key>) {
      return value.hex();
    } else if constexpr (wire::is_vector_v<T>) {
      Json list = Json::array();
      for (const auto& item : value) list.push_back(of(item));
      return list;
    } else if constexpr (wire::is_optional_v<T>) {
      return value ? of(*value) : Json();
    } else {
      JsonFields fields;
      T::fields(value, fields);
      return std::move(fields.json_);
    }
  }

 private:
  Json json_ = Json::object();
};

// A row's image as text or JSON; raw bytes in hex where it has no struct, and where it makes no
// sense.
template <class Row>
void decode_as(ByteSpan image, std::string* text, Json* json) {
  auto row = wire::decode<Row>(image);
  if (!row) {
    if (text != nullptr) *text = "malformed " + to_hex(image);
    if (json != nullptr) *json = {{"malformed", to_hex(image)}};
    return;
  }
  if (text != nullptr) *text = wire::describe("", *row);
  if (json != nullptr) *json = JsonFields::of(*row);
}

void decode_raw(ByteSpan image, std::string* text, Json* json) {
  constexpr std::size_t kShownMax = 64;
  const ByteSpan shown = image.first(std::min(image.size(), kShownMax));
  if (text != nullptr)
    *text = fmt::format("{} bytes {}{}", image.size(), to_hex(shown),
                        image.size() > kShownMax ? "..." : "");
  if (json != nullptr) *json = {{"raw", to_hex(image)}};
}

void decode_row(Table table, ByteSpan image, std::string* text, Json* json) {
  switch (table) {
    case Table::slot: return decode_as<store::SlotRow>(image, text, json);
    case Table::inode: return decode_as<store::InodeRow>(image, text, json);
    case Table::entry: return decode_as<store::EntryRow>(image, text, json);
    case Table::lock: return decode_as<store::LockRow>(image, text, json);
    case Table::chunk: return decode_as<store::ChunkRow>(image, text, json);
    case Table::authority: return decode_as<store::AuthorityRow>(image, text, json);
    case Table::intent: return decode_as<store::IntentRow>(image, text, json);
    case Table::part: return decode_as<store::PartRow>(image, text, json);
    case Table::reply: return decode_as<store::ReplyRow>(image, text, json);
    case Table::session: return decode_as<store::SessionRow>(image, text, json);
    case Table::open: return decode_as<store::OpenRow>(image, text, json);
    case Table::mirror: return decode_as<store::MirrorStateRow>(image, text, json);
    case Table::file_lock: return decode_as<locks::HeldLocks>(image, text, json);
    case Table::inline_data:
    case Table::page_sums:
    case Table::hot_range:
    case Table::refusal:
    case Table::orphan:
    case Table::xattr:
    case Table::removal: break;
  }
  decode_raw(image, text, json);
}

// The third part of a key is a name, or a number of four bytes.
bool has_name(Table table) {
  return table == Table::entry || table == Table::lock || table == Table::xattr;
}
std::string third_text(Table table, std::string_view c) {
  if (c.empty()) return {};
  return has_name(table) ? " \"" + client::printable(c) + "\"" : " " + to_hex(as_bytes(c));
}

class Dumper {
 public:
  explicit Dumper(const Arguments& arguments) : arguments_(arguments) {}

  Result<void> run() {
    TRY_VALUE(auto disk, sys_real::PosixDisk::open_directory(arguments_.directory, false));
    TRY_VALUE(bool is_ours, disk->exists("volcano.json"));
    if (!is_ours) return fail(Code::not_magma, arguments_.directory + " holds no volcano.json");
    TRY_VALUE(auto lock, sys_real::lock_directory(arguments_.directory));
    InlineExecutor executor;
    TRY_VALUE(auto metadata, store::MetadataStore::open(*disk, executor, false));
    for (unsigned database = 0; database < store::kDatabases; ++database) {
      for (unsigned number = 1; number <= store::kTableLast; ++number)
        if (is_wanted(static_cast<Table>(number)))
          TRY(dump_table(*metadata, database, static_cast<Table>(number)));
      if (arguments_.oplog) TRY(dump_oplog(*metadata, database));
    }
    if (std::fflush(stdout) != 0) return fail(Code::io, "standard output cannot be written");
    return {};
  }

 private:
  // Nothing else happens in this process, so work may block.
  class InlineExecutor final : public sys::Executor {
   public:
    void run(UniqueFunction<void()> work, UniqueFunction<void()> done) override {
      work();
      done();
    }
  };

  bool is_wanted(Table table) const {
    return arguments_.tables.empty() ||
           std::find(arguments_.tables.begin(), arguments_.tables.end(), store::name_of(table)) !=
               arguments_.tables.end();
  }

  Result<void> dump_table(store::MetadataStore& metadata, unsigned database, Table table) {
    bool is_written = true;
    auto visit = [&](const ScanRow& row) {
      is_written = print(arguments_.json ? json_of(database, table, row) : text_of(table, row));
      return is_written;
    };
    TRY(metadata.scan_database(database, table, visit));
    if (!is_written) return fail(Code::io, "standard output cannot be written");
    return {};
  }

  Result<void> dump_oplog(store::MetadataStore& metadata, unsigned database) {
    bool is_written = true;
    auto visit = [&](const store::MetadataStore::OplogRow& row) {
      auto body = wire::decode<store::OplogBody>(row.image);
      if (arguments_.json) {
        Json json = {{"oplog", row.id},
                     {"database", database},
                     {"slot", row.slot.value},
                     {"epoch", row.version.epoch.value},
                     {"seq", row.version.seq.value}};
        if (body) json.update(JsonFields::of(*body));
        if (!body) json["malformed"] = to_hex(row.image);
        is_written = print(json.dump(-1, ' ', false, Json::error_handler_t::replace));
      } else {
        std::string text =
            fmt::format("oplog {}.{} slot {:03x} version {}.{}", database, row.id, row.slot.value,
                        row.version.epoch.value, row.version.seq.value);
        text += body ? fmt::format(" batch {}", body->batch) : " malformed " + to_hex(row.image);
        if (body) text += oplog_text(*body);
        is_written = print(text);
      }
      return is_written;
    };
    TRY(metadata.scan_oplog(database, 0, visit));
    if (!is_written) return fail(Code::io, "standard output cannot be written");
    return {};
  }

  static std::string oplog_text(const store::OplogBody& body) {
    std::string text;
    for (const store::RowKey& key : body.keys)
      text += fmt::format(", {} {:x} {:x}{}", store::name_of(key.table), key.a, key.b,
                          third_text(key.table, key.c));
    for (const store::ContentRange& range : body.contents)
      text += fmt::format(", content {:x}.{} {}+{}", range.ino.value, range.chunk, range.offset,
                          range.length);
    return text;
  }

  static std::string text_of(Table table, const ScanRow& row) {
    std::string image;
    decode_row(table, row.image, &image, nullptr);
    return fmt::format("{} {:x} {:x}{} version {}.{} {}", store::name_of(table), row.a, row.b,
                       third_text(table, row.c), row.version.epoch.value, row.version.seq.value,
                       image);
  }

  static std::string json_of(unsigned database, Table table, const ScanRow& row) {
    Json image;
    decode_row(table, row.image, nullptr, &image);
    Json json = {
        {"table", store::name_of(table)}, {"database", database}, {"a", row.a}, {"b", row.b}};
    if (has_name(table)) json["name"] = json_text(row.c);
    if (!row.c.empty()) json["c_hex"] = to_hex(as_bytes(row.c));
    json["epoch"] = row.version.epoch.value;
    json["seq"] = row.version.seq.value;
    json["row"] = std::move(image);
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  static bool print(const std::string& line) {
    return std::fwrite(line.data(), 1, line.size(), stdout) == line.size() &&
           std::fputc('\n', stdout) != EOF;
  }

  const Arguments& arguments_;
};

int dump(const Arguments& arguments) {
  auto done = Dumper(arguments).run();
  if (done) return kDone;
  if (done.error().code == Code::in_use)
    return failed("dump", done.error().detail + ": is its magmad running? stop it first");
  return failed("dump", done.error().detail.empty()
                            ? arguments.directory + ": " + describe(done.error())
                            : describe(done.error()));
}

std::vector<std::string> table_names() {
  std::vector<std::string> names;
  for (unsigned number = 1; number <= store::kTableLast; ++number)
    names.emplace_back(store::name_of(static_cast<Table>(number)));
  return names;
}

}  // namespace

void add_dump(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("dump", "Print the rows of a storage directory whose volcano is stopped");
  auto arguments = std::make_shared<Arguments>();  // shared by the parser and `chosen`
  command->add_option("DIR", arguments->directory, "Storage directory (magmad -d)")->required();
  command->add_option("--table", arguments->tables, "Only these tables")
      ->delimiter(',')
      ->check(CLI::IsMember(table_names()));
  command->add_flag("--oplog", arguments->oplog, "The oplog as well");
  command->add_flag("--json", arguments->json, "A JSON object a line");
  command->footer(
      "\nA line is table, key (a and b in hex, c), version (epoch.sequence) and the row's fields;\n"
      "doc/disk-format.md says what they mean. Bytes without fields are in hex, in text the first\n"
      "64 of them. File content is not shown but what lies in inline_data rows: a dump may hold\n"
      "people's data.\n"
      "Exit codes: 0 done, 1 wrong usage, 2 failed.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return dump(*arguments); }; });
}

}  // namespace magma::tools
