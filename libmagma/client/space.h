// How much room the filesystem has: what the volcanoes that have slots tell, together. Used by
// Client. One thread.
#pragma once

#include <vector>

#include "libmagma/client/requests.h"
#include "libmagma/client/router.h"

namespace magma::client {

// Asks each owner; `done` gets the sum, or the first error. Requires: there are owners.
Token sum_space(Requests& requests, const std::vector<Router::Owner>& owners, Credentials who,
                Done<wire::StatfsReply> done);

}  // namespace magma::client
