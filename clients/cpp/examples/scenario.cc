// Does once what a client does: make a bank, add, search, generate, meet an error, cancel. Prints
// what came of it as one JSON object.
//
//   scenario --decoder 127.0.0.1:7300 --retriever 127.0.0.1:7301
#include <iostream>
#include <string>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include "memory3/client.h"

namespace {

constexpr char kBank[] = "clients-cpp";
constexpr char kDocument[] =
    "The lighthouse of Vardø was built in 1896. Its keeper was called Marit.";
constexpr char kQuestion[] = "Who kept the lighthouse?";

memory3::v1::GenerateRequest request(const std::string& bank, int max_tokens) {
  memory3::v1::GenerateRequest made;
  made.set_prompt(kQuestion);
  made.set_bank(memory3::bank_name(bank));
  made.mutable_sampling()->set_max_tokens(max_tokens);
  made.mutable_sampling()->set_ignore_eos(true);
  made.mutable_memory()->mutable_retrieval_timeout()->set_seconds(10);
  return made;
}

using Fields = google::protobuf::Map<std::string, google::protobuf::Value>;

void add_and_search(memory3::Client& client, Fields& result) {
  client.create_bank(kBank);
  memory3::v1::Document document;
  document.set_text(kDocument);
  document.set_source("lighthouse.txt");
  int num_references = 0;
  for (const auto& added : client.add_documents(kBank, {document})) {
    num_references += added.reference_ids_size();
  }
  result["num_references"].set_number_value(num_references);
  for (const auto& hit : client.search(kBank, kQuestion, 1)) {
    result["found"].set_string_value(hit.reference().text());
  }
}

void generate(memory3::Client& client, Fields& result) {
  std::string text;
  auto& tokens = *result["token_ids"].mutable_list_value();
  auto& attached = *result["attached"].mutable_list_value();
  auto stream = client.generate(request(kBank, 24));
  for (memory3::v1::GenerateResponse event; stream.next(event);) {
    text += event.delta().text();
    for (const int token : event.delta().token_ids()) tokens.add_values()->set_number_value(token);
    for (const auto& reference : event.attached().references()) {
      attached.add_values()->set_string_value(reference.id());
    }
    if (event.has_finish()) {
      result["finish_reason"].set_string_value(
          memory3::v1::FinishReason_Name(event.finish().reason()));
      result["completion_tokens"].set_number_value(event.finish().usage().completion_tokens());
    }
  }
  result["text"].set_string_value(text);
}

void meet_an_error(memory3::Client& client, Fields& result) {
  try {
    auto stream = client.generate(request("clients-cpp-absent", 8));
    for (memory3::v1::GenerateResponse event; stream.next(event);) {
    }
  } catch (const memory3::Error& error) {
    auto& told = *result["error"].mutable_struct_value()->mutable_fields();
    told["code"].set_number_value(error.code());
    told["reason"].set_string_value(error.reason());
    told["field"].set_string_value(error.field());
    told["remedy"].set_string_value(error.remedy());
  }
}

void stop_early(memory3::Client& client, Fields& result) {
  try {
    auto stream = client.generate(request(kBank, 400));
    for (memory3::v1::GenerateResponse event; stream.next(event);) {
      if (event.has_delta()) stream.cancel();
    }
  } catch (const memory3::Error& error) {
    const bool cancelled = error.code() == grpc::StatusCode::CANCELLED;
    result["cancelled_with"].set_string_value(cancelled ? "CANCELLED" : error.what());
  }
}

}  // namespace

int main(int count, char** values) {
  memory3::Options options;
  for (int place = 1; place + 1 < count; place += 2) {
    const std::string name = values[place];
    if (name == "--decoder") options.decoder = values[place + 1];
    if (name == "--retriever") options.retriever = values[place + 1];
  }
  try {
    memory3::Client client(options);
    google::protobuf::Struct result;
    add_and_search(client, *result.mutable_fields());
    generate(client, *result.mutable_fields());
    meet_an_error(client, *result.mutable_fields());
    stop_early(client, *result.mutable_fields());
    std::string json;
    if (!google::protobuf::util::MessageToJsonString(result, &json).ok()) return 1;
    std::cout << json << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
