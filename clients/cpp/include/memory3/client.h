// A client of memory3: add documents to a bank, search it, and generate text that reads the bank's
// memories while it is written.
//
//   memory3::Client client;
//   client.add_documents("docs", {document});
//   auto stream = client.generate(request);
//   for (memory3::v1::GenerateResponse event; stream.next(event);) std::cout << event.delta().text();
//
// Every method blocks, throws memory3::Error, and may be called from many threads at once. What has
// no method here is on the generated stubs.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "memory3/error.h"
#include "memory3/v1/decoder.grpc.pb.h"
#include "memory3/v1/retriever.grpc.pb.h"

namespace memory3 {

// Where the services are; by default a stack on this machine, without TLS.
struct Options {
  std::string decoder = "127.0.0.1:7300";
  std::string retriever = "127.0.0.1:7301";
  // Sent as a bearer token with every call; needs root_certificates.
  std::string token;
  // In PEM; switches TLS on.
  std::string root_certificates;
  // How long a call may take.
  std::chrono::milliseconds timeout = std::chrono::minutes(1);
};

// An answer on its way. Destroying it before its end stops the work on the server.
class GenerateStream {
 public:
  GenerateStream(GenerateStream&&) = default;
  ~GenerateStream();

  // Waits for the next event; false at the end of a complete answer.
  bool next(v1::GenerateResponse& event);

  // Stops the work; may be called from another thread. next() then throws CANCELLED.
  void cancel() { context_->TryCancel(); }

 private:
  friend class Client;
  GenerateStream(std::unique_ptr<grpc::ClientContext> context,
                 std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader);

  // In this order: the reader must go before its context.
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
  bool ended_ = false;
};

class Client {
 public:
  explicit Client(Options options = {});

  // Makes a bank, or leaves the one of that name as it is.
  v1::Bank create_bank(const std::string& bank);

  // Cuts texts into references and keeps them; what is returned has been written durably. A
  // document that cannot be kept is an error of its own in its result.
  std::vector<v1::AddDocumentResult> add_documents(const std::string& bank,
                                                   const std::vector<v1::Document>& documents);

  // Finds the k references that are nearest to a text, best first.
  std::vector<v1::SearchHit> search(const std::string& bank, const std::string& text, int k = 5);

  // Begins an answer.
  GenerateStream generate(const v1::GenerateRequest& request);

  v1::RetrieverService::Stub& retriever() { return *retriever_; }
  v1::DecoderService::Stub& decoder() { return *decoder_; }

 private:
  std::unique_ptr<grpc::ClientContext> context() const;

  Options options_;
  std::unique_ptr<v1::RetrieverService::Stub> retriever_;
  std::unique_ptr<v1::DecoderService::Stub> decoder_;
};

// The resource name of a bank: "docs" becomes "banks/docs".
std::string bank_name(const std::string& bank);

}  // namespace memory3
