package memory3.client;

import com.google.protobuf.ListValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.google.protobuf.util.JsonFormat;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import memory3.v1.Decoder.GenerateRequest;
import memory3.v1.Decoder.MemoryOptions;
import memory3.v1.Decoder.SamplingParameters;
import memory3.v1.Retriever.Document;

/**
 * Does once what a client does: make a bank, add, search, generate, meet an error, cancel. Prints
 * what came of it as one JSON object.
 */
final class Scenario {
  private static final String BANK = "clients-java";
  private static final String DOCUMENT =
      "The lighthouse of Vardø was built in 1896. Its keeper was called Marit.";
  private static final String QUESTION = "Who kept the lighthouse?";

  private final Memory3Client client;
  private final Struct.Builder result = Struct.newBuilder();

  private Scenario(Memory3Client client) {
    this.client = client;
  }

  public static void main(String[] values) throws Exception {
    var addresses = new Properties();
    for (int place = 0; place + 1 < values.length; place += 2) {
      addresses.setProperty(values[place], values[place + 1]);
    }
    var options =
        Memory3Client.Options.at(
            addresses.getProperty("--decoder", "127.0.0.1:7300"),
            addresses.getProperty("--retriever", "127.0.0.1:7301"));
    try (var client = new Memory3Client(options)) {
      var scenario = new Scenario(client);
      scenario.addAndSearch();
      scenario.generate();
      scenario.meetAnError();
      scenario.stopEarly();
      System.out.write(JsonFormat.printer().print(scenario.result).getBytes(StandardCharsets.UTF_8));
      System.out.flush();
    }
  }

  private void addAndSearch() {
    client.createBank(BANK);
    var document = Document.newBuilder().setText(DOCUMENT).setSource("lighthouse.txt").build();
    int numReferences = 0;
    for (var added : client.addDocuments(BANK, List.of(document))) {
      numReferences += added.getReferenceIdsCount();
    }
    put("num_references", number(numReferences));
    for (var hit : client.search(BANK, QUESTION, 1)) {
      put("found", text(hit.getReference().getText()));
    }
  }

  private void generate() {
    var written = new StringBuilder();
    var tokens = ListValue.newBuilder();
    var attached = ListValue.newBuilder();
    try (var answer = client.generate(request(BANK, 24))) {
      for (var event : answer) {
        written.append(event.getDelta().getText());
        event.getDelta().getTokenIdsList().forEach(token -> tokens.addValues(number(token)));
        event.getAttached().getReferencesList().forEach(each -> attached.addValues(text(each.getId())));
        if (event.hasFinish()) {
          put("finish_reason", text(event.getFinish().getReason().name()));
          put("completion_tokens", number(event.getFinish().getUsage().getCompletionTokens()));
        }
      }
    }
    put("text", text(written.toString()));
    put("token_ids", Value.newBuilder().setListValue(tokens).build());
    put("attached", Value.newBuilder().setListValue(attached).build());
  }

  private void meetAnError() {
    try (var answer = client.generate(request("clients-java-absent", 8))) {
      answer.forEach(event -> {});
    } catch (Memory3Exception error) {
      var told =
          Struct.newBuilder()
              .putAllFields(
                  Map.of(
                      "code", number(error.code().value()),
                      "reason", text(error.reason()),
                      "field", text(error.field()),
                      "remedy", text(error.remedy())));
      put("error", Value.newBuilder().setStructValue(told).build());
    }
  }

  private void stopEarly() {
    try (var answer = client.generate(request(BANK, 400))) {
      for (var event : answer) {
        if (event.hasDelta()) {
          answer.cancel();
        }
      }
    } catch (Memory3Exception error) {
      put("cancelled_with", text(error.code().name()));
    }
  }

  private static GenerateRequest request(String bank, int maxTokens) {
    var patience = com.google.protobuf.Duration.newBuilder().setSeconds(10);
    return GenerateRequest.newBuilder()
        .setPrompt(QUESTION)
        .setBank(Memory3Client.bankName(bank))
        .setSampling(SamplingParameters.newBuilder().setMaxTokens(maxTokens).setIgnoreEos(true))
        .setMemory(MemoryOptions.newBuilder().setRetrievalTimeout(patience))
        .build();
  }

  private void put(String name, Value value) {
    result.putFields(name, value);
  }

  private static Value number(double value) {
    return Value.newBuilder().setNumberValue(value).build();
  }

  private static Value text(String value) {
    return Value.newBuilder().setStringValue(value).build();
  }
}
