// What a service answers instead, as one exception.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>

#include <grpcpp/support/status.h>

namespace memory3 {

// Decide by code and reason, never by what().
class Error : public std::runtime_error {
 public:
  explicit Error(const grpc::Status& status);

  grpc::StatusCode code() const { return code_; }

  // One of the table in memory3/rpc/README.md, such as CHECKPOINT_MISMATCH; empty if the error did
  // not come from a service of memory3.
  const std::string& reason() const { return reason_; }

  // The field of the request that is at fault, and what to do; empty if not known.
  const std::string& field() const { return field_; }
  const std::string& remedy() const { return remedy_; }

  // When to try again; zero if the service does not say.
  std::chrono::milliseconds retry_after() const { return retry_after_; }

 private:
  grpc::StatusCode code_;
  std::string reason_, field_, remedy_;
  std::chrono::milliseconds retry_after_{0};
};

// Throws an Error unless the status is OK.
void check(const grpc::Status& status);

}  // namespace memory3
