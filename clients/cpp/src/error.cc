#include "memory3/error.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace memory3 {
namespace {

constexpr char kDomain[] = "memory3";

std::string value_of(const google::rpc::ErrorInfo& info, const std::string& key) {
  const auto found = info.metadata().find(key);
  return found == info.metadata().end() ? "" : found->second;
}

}  // namespace

Error::Error(const grpc::Status& status)
    : std::runtime_error(status.error_message()), code_(status.error_code()) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return;
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info) && info.domain() == kDomain) {
      reason_ = info.reason();
      field_ = value_of(info, "field");
      remedy_ = value_of(info, "remedy");
    } else if (detail.UnpackTo(&retry)) {
      retry_after_ = std::chrono::milliseconds(retry.retry_delay().seconds() * 1000 +
                                               retry.retry_delay().nanos() / 1'000'000);
    }
  }
}

void check(const grpc::Status& status) {
  if (!status.ok()) throw Error(status);
}

}  // namespace memory3
