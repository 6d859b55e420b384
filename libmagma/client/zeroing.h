// fallocate(2) that makes zeros, of a file whose bytes are several volcanoes': zeros are written.
// The space is not given back.
#pragma once

#include "libmagma/client/client.h"

namespace magma::client {

// Whether it is one that makes zeros and that Magma knows.
bool is_zeroing(const wire::FallocateRequest& request);
// Requires: is_zeroing(request). The client outlives it.
void write_zeros(Client& client, const wire::FallocateRequest& request, Credentials who,
                 Done<wire::FallocateReply> done);

}  // namespace magma::client
