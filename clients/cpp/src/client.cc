#include "memory3/client.h"

#include <stdexcept>
#include <utility>

namespace memory3 {
namespace {

// Calls with one answer are tried again while nothing answers; streams are the caller's to begin
// again.
constexpr char kServiceConfig[] = R"({
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [
      {"service": "memory3.v1.RetrieverService", "method": "CreateBank"},
      {"service": "memory3.v1.RetrieverService", "method": "Search"}
    ],
    "retryPolicy": {
      "maxAttempts": 5, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
})";

constexpr int kMaxMessageBytes = 64 << 20;
// Servers take pings half as far apart for a flood.
constexpr int kKeepaliveMs = 60'000;

std::shared_ptr<grpc::ChannelCredentials> credentials(const Options& options) {
  if (!options.root_certificates.empty()) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = options.root_certificates;
    return grpc::SslCredentials(tls);
  }
  if (!options.token.empty()) {
    throw std::invalid_argument("a token would travel in the open: give root_certificates too");
  }
  return grpc::InsecureChannelCredentials();
}

std::shared_ptr<grpc::Channel> connect(const std::string& target, const Options& options) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(kServiceConfig);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  return grpc::CreateCustomChannel(target, credentials(options), arguments);
}

}  // namespace

GenerateStream::GenerateStream(std::unique_ptr<grpc::ClientContext> context,
                               std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader)
    : context_(std::move(context)), reader_(std::move(reader)) {}

GenerateStream::~GenerateStream() {
  if (reader_ == nullptr || ended_) return;
  context_->TryCancel();
  reader_->Finish();
}

bool GenerateStream::next(v1::GenerateResponse& event) {
  if (ended_) return false;
  if (reader_->Read(&event)) return true;
  ended_ = true;
  check(reader_->Finish());
  return false;
}

Client::Client(Options options)
    : options_(std::move(options)),
      retriever_(v1::RetrieverService::NewStub(connect(options_.retriever, options_))),
      decoder_(v1::DecoderService::NewStub(connect(options_.decoder, options_))) {}

v1::Bank Client::create_bank(const std::string& bank) {
  v1::CreateBankRequest request;
  request.mutable_bank()->set_name(bank_name(bank));
  request.set_allow_existing(true);
  v1::CreateBankResponse response;
  check(retriever_->CreateBank(context().get(), request, &response));
  return response.bank();
}

std::vector<v1::AddDocumentResult> Client::add_documents(
    const std::string& bank, const std::vector<v1::Document>& documents) {
  const auto call = context();
  const auto stream = retriever_->AddDocuments(call.get());
  v1::AddDocumentsRequest request;
  request.set_bank(bank_name(bank));
  request.mutable_documents()->Assign(documents.begin(), documents.end());
  // A stream that the server has ended takes no more; Finish says why.
  stream->Write(request);
  stream->WritesDone();
  std::vector<v1::AddDocumentResult> results;
  for (v1::AddDocumentsResponse response; stream->Read(&response);) {
    results.insert(results.end(), response.results().begin(), response.results().end());
  }
  check(stream->Finish());
  return results;
}

std::vector<v1::SearchHit> Client::search(const std::string& bank, const std::string& text, int k) {
  v1::SearchRequest request;
  request.set_bank(bank_name(bank));
  request.add_queries()->set_text(text);
  request.set_k(k);
  v1::SearchResponse response;
  check(retriever_->Search(context().get(), request, &response));
  if (response.results_size() != 1) {
    throw Error({grpc::StatusCode::INTERNAL, "one query was asked, and not one was answered"});
  }
  const auto& hits = response.results(0).hits();
  return {hits.begin(), hits.end()};
}

GenerateStream Client::generate(const v1::GenerateRequest& request) {
  auto call = context();
  auto reader = decoder_->Generate(call.get(), request);
  return {std::move(call), std::move(reader)};
}

std::unique_ptr<grpc::ClientContext> Client::context() const {
  auto made = std::make_unique<grpc::ClientContext>();
  made->set_deadline(std::chrono::system_clock::now() + options_.timeout);
  made->set_wait_for_ready(true);
  if (!options_.token.empty()) made->AddMetadata("authorization", "Bearer " + options_.token);
  return made;
}

std::string bank_name(const std::string& bank) {
  const std::string collection = "banks/";
  return bank.compare(0, collection.size(), collection) == 0 ? bank : collection + bank;
}

}  // namespace memory3
