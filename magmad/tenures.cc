#include "magmad/tenures.h"

#include <algorithm>
#include <map>
#include <utility>

#include "libmagma/base/log.h"
#include "magmad/core/tenure_rules.h"
#include "magmad/store/storage_dir.h"

namespace magma {

namespace {

// Whether slots that are together now shall be so: those apart may stay apart.
bool are_groups_fine_enough(const SlotOwners& now, const SlotOwners& wanted) {
  std::map<std::uint16_t, std::uint16_t> of;
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    if (of.try_emplace(now.group_of[n], wanted.group_of[n]).first->second != wanted.group_of[n])
      return false;
  return true;
}

bool is_same(const SlotOwners& a, const SlotOwners& b) {
  return a.owner_of == b.owner_of && a.not_yet == b.not_yet && are_groups_fine_enough(a, b) &&
         std::equal(a.owners.begin(), a.owners.end(), b.owners.begin(), b.owners.end(),
                    [](const SlotOwners::Owner& one, const SlotOwners::Owner& other) {
                      return one.id == other.id && one.address == other.address;
                    });
}

constexpr unsigned kVersionBits = 40;  // of a lava map's version, below the ring's generation

// By the numbers of the volcanoes, so that what is the same looks the same.
SlotOwners owners_by(const ring::LavaMap& map, ring::VolcanoId self) {
  SlotOwners owners;
  // A ring of a higher generation begins to count anew.
  owners.version = std::uint64_t{map.generation} << kVersionBits | map.version;
  std::map<ring::VolcanoId, std::uint16_t> index;
  for (const ring::SlotEntry& slot : map.slots) index[slot.primary()];
  for (auto& [id, at] : index) {
    at = static_cast<std::uint16_t>(owners.owners.size());
    const ring::Volcano* known = map.find(id);
    owners.owners.push_back({id, known == nullptr ? std::string() : known->profile.flare});
  }
  for (const ring::Volcano& volcano : map.volcanoes)
    if (volcano.stores() && volcano.id != self) owners.others.push_back(volcano.profile.flare);
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    owners.owner_of[n] = index[map.slots[n].primary()];
  owners.not_yet = owners.slots_of(self) & ~core::slots_to_serve(map, self);
  owners.group_of = core::groups_of(map, self);
  return owners;
}

// Whether it is to serve slots whose last server has not told who believes him: the map may say so
// before they were claimed, if he has lost something.
bool gets_unreleased(const ring::LavaMap& before, const ring::LavaMap& now, ring::VolcanoId self,
                     const ring::SlotMask& released) {
  for (unsigned n = 0; before.version > 0 && n < ring::kSlotCount; ++n)
    if (now.slots[n].last_serving == self && before.slots[n].last_serving != self && !released[n])
      return true;
  return false;
}

}  // namespace

Tenures::Tenures(VolcanoConfig config, bool follows_map, sys::Clock& clock, sys::Random& random,
                 sys::Datagrams& datagrams, sys::Disk& disk, sys::Executor& executor)
    : config_(std::move(config)),
      follows_map_(follows_map),
      clock_(clock),
      random_(random),
      datagrams_(datagrams),
      disk_(disk),
      executor_(executor) {}

Result<std::unique_ptr<Tenures>> Tenures::start(VolcanoConfig config, bool create,
                                                bool follows_map, sys::Clock& clock,
                                                sys::Random& random, sys::Datagrams& datagrams,
                                                sys::Disk& disk, sys::Executor& executor) {
  std::unique_ptr<Tenures> tenures(new Tenures(std::move(config), follows_map, clock, random,
                                               datagrams, disk, executor));
  if (follows_map) tenures->share_ = tenures->first_share(create);
  TRY(tenures->begin(create));
  TRY_VALUE(tenures->has_lost_, store::has_untold_loss(disk));
  if (!follows_map) tenures->has_lost_ = false;
  return tenures;
}

// Who makes a filesystem has all of it.
Tenures::Share Tenures::first_share(bool create) const {
  Share share{.serves = create && config_.serves, .owners = {}};
  share.owners.version = 1;
  if (share.serves) share.owners.owners.push_back({config_.self, config_.address.text()});
  return share;
}

Result<void> Tenures::begin(bool create) {
  VolcanoConfig config = config_;
  if (share_) {
    config.serves = share_->serves;
    config.owners = share_->serves ? std::optional(share_->owners) : std::nullopt;
  }
  config.claims_slots = config.needs_lease = follows_map_;
  config.believers = std::exchange(believers_, {});
  config.may_others_believe = std::exchange(may_others_believe_, false);
  config.after_crash = std::move(after_crash_);
  if (config.serves) config.carried = std::move(carried_);
  carried_.reset();
  kept_ = ring::all_slots();
  TRY_VALUE(volcano_, Volcano::start(std::move(config), create, clock_, random_, datagrams_, disk_,
                                     executor_));
  ++count_;
  return {};
}

// ---- the map

Tenures::Share Tenures::share_by(const ring::LavaMap& map) const {
  Share share{.serves = false, .owners = owners_by(map, config_.self)};
  share.serves = share.owners.served_by(config_.self).any();
  return share;
}

// Who serves nothing need not know whose the slots are.
bool Tenures::is_current(const Share& share) const {
  if (!share.serves) return !share_->serves;
  return share_->serves && is_same(share_->owners, share.owners);
}

void Tenures::set_ring(node::RingViewPtr view) {
  if (failure_) return;
  if (!follows_map_) return volcano_->set_ring(std::move(view));
  note_believers();
  note_told_loss(*view);
  if (view_ && gets_unreleased(*view_->map, *view->map, config_.self,
                               volcano_->released().slots))
    may_others_believe_ = true;
  // Before it serves a slot again that another one has served, it has a map by which it does not.
  if (is_usable(*view)) kept_ &= core::slots_to_serve(*view->map, config_.self);
  if (view_ && view_->lease_until && *view_->lease_until <= clock_.now()) kept_.reset();
  const bool is_new_map =
      !view_ || view_->map != view->map || is_usable(*view_) != is_usable(*view);
  view_ = view;
  if (!is_new_map) return volcano_->set_ring(std::move(view));
  // Before the map is heard of where mirrors are waited for: who gets the slots is one.
  if (is_usable(*view_) &&
      (volcano_->owned() & ~core::slots_to_serve(*view_->map, config_.self)).any())
    end_tenure();
  volcano_->set_ring(std::move(view));
  look_at_map();
}

bool Tenures::is_settled() const {
  if (!follows_map_) return true;
  if (failure_ || !view_ || !is_usable(*view_) || is_ending_ || due_ != Instant::never())
    return false;
  return volcano_->owned().none() || (view_->lease_until && clock_.now() < *view_->lease_until);
}

// What a volcano's earlier start has said may still be changing the map.
bool Tenures::is_usable(const node::RingView& view) {
  return view.is_start_known && view.map->version > 0;
}

void Tenures::end_tenure() {
  if (is_ending_ || volcano_->is_ending()) return;  // the process ends
  is_ending_ = true;
  volcano_->begin_stop();
}

void Tenures::note_told_loss(const node::RingView& view) {
  if (!has_lost_ || !is_usable(view)) return;
  if (auto done = store::forget_loss(disk_); !done)
    return log_warning("loss_not_forgotten error={}", describe(done.error()));  // told once more
  has_lost_ = false;
}

// Of slots that this volcano claims: who they are is told again as long as it does not serve them.
void Tenures::note_believers() {
  const Released& released = volcano_->released();
  believers_.insert(believers_.end(), released.believers.begin(), released.believers.end());
  std::sort(believers_.begin(), believers_.end());
  believers_.erase(std::unique(believers_.begin(), believers_.end()), believers_.end());
  may_others_believe_ =
      may_others_believe_ || released.may_others_believe || volcano_->is_after_loss();
}

// What mirrors have counts only once it is told which slots change together.
wire::VolcanoFacts Tenures::facts() {
  if (failure_) return {};
  wire::VolcanoFacts facts = volcano_->facts();
  if (!is_ending_ && due_ == Instant::never()) return facts;
  facts.mirrors.clear();
  facts.membership = 0;
  return facts;
}

void Tenures::look_at_map() {
  if (!is_usable(*view_)) return;
  if (is_current(share_by(*view_->map)))
    due_ = Instant::never();
  else if (due_ == Instant::never())
    due_ = clock_.now() + kSettle;
}

// ---- from one tenure to the next

// Slots that the map gives to another one.
std::vector<HandOver> Tenures::left_to(const ring::LavaMap& map, const Share& next) const {
  std::map<ring::VolcanoId, ring::SlotMask> left;
  const ring::SlotMask kept = next.owners.served_by(config_.self);
  for (unsigned n = 0; n < ring::kSlotCount; ++n)
    if (volcano_->owned()[n] && !kept[n] && map.slots[n].primary() != config_.self)
      left[map.slots[n].primary()].set(n);
  std::vector<HandOver> hand_overs;
  for (const auto& [to, slots] : left) hand_overs.push_back({to, slots});
  return hand_overs;
}

void Tenures::next_tenure() {
  is_ending_ = false;
  due_ = Instant::never();
  const ring::LavaMap& map = *view_->map;
  Share next = share_by(map);
  log_info("tenure_ends served={} serves={} owners={} map_version={}", volcano_->owned().count(),
           next.owners.served_by(config_.self).count(), next.owners.owners.size(), map.version);
  note_believers();
  for (SessionId session : volcano_->believers()) believers_.push_back(session);
  after_crash_ = volcano_->after_crash();
  auto done = volcano_->stop(left_to(map, next));
  if (done) {
    const ring::SlotMask kept = volcano_->owned() & kept_;
    if (kept.any()) carried_ = CarriedTokens{volcano_->take_tokens(), kept};
    volcano_.reset();
    share_ = std::move(next);
    done = begin(false);
  }
  if (!done) {
    log_error("tenure_failed error={}", describe(done.error()));
    failure_ = done.error();
    return;
  }
  if (next_hook_) next_hook_(*volcano_);
  volcano_->set_ring(view_);
  look_at_map();
  volcano_->flush();
}

void Tenures::flush() {
  if (failure_) return;
  volcano_->flush();
  // Who was asked to end the process would be another one.
  if (is_ending_ && !volcano_->stop_wanted() && volcano_->is_quiet()) next_tenure();
}

void Tenures::on_datagram(const sys::Address& from, MutableByteSpan datagram) {
  if (!failure_) volcano_->on_datagram(from, datagram);
}

Instant Tenures::deadline() const {
  if (failure_) return Instant::never();
  if (is_ending_ && volcano_->is_quiet()) return {};
  return std::min(volcano_->deadline(), is_ending_ ? Instant::never() : due_);
}

void Tenures::on_timer() {
  if (failure_) return;
  if (volcano_->deadline() <= clock_.now()) volcano_->on_timer();
  if (due_ <= clock_.now()) end_tenure();
  flush();
}

bool Tenures::failed() const { return failure_.has_value() || volcano_->failed(); }

Result<void> Tenures::stop() {
  if (failure_) return fail(*failure_);
  return volcano_->stop();
}

}  // namespace magma
