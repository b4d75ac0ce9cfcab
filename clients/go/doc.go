// Package memory3 is a client of memory3's services: it adds documents to a bank, searches it, and
// generates text that reads the bank's memories while it is written.
//
//	client, err := memory3.Connect(memory3.Options{})
//	if err != nil { … }
//	defer client.Close()
//	added, err := client.AddDocuments(ctx, "docs", &memory3v1.Document{Text: text, Source: "a.md"})
//	stream, err := client.Generate(ctx, &memory3v1.GenerateRequest{Prompt: "…", Bank: "banks/docs"})
//	for stream.Next() {
//		fmt.Print(stream.Delta().GetText())
//	}
//	if err := stream.Err(); err != nil { … }
//
// Everything that the services offer is in the generated package memory3/v1; Client.Retriever and
// Client.Decoder are its stubs. Every method takes a context: its deadline is the call's, and
// cancelling it stops the work on the server within a tenth of a second.
package memory3
