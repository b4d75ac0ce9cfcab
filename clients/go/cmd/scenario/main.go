// Command scenario does once what a client does: it makes a bank, adds a document, searches,
// generates, meets an error and cancels. It prints what came of it as one JSON object.
//
//	go run ./cmd/scenario -decoder 127.0.0.1:7300 -retriever 127.0.0.1:7301
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"os"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"memory3"
	memory3v1 "memory3/v1"
)

const (
	bank     = "clients-go"
	document = "The lighthouse of Vardø was built in 1896. Its keeper was called Marit."
	question = "Who kept the lighthouse?"
)

type outcome struct {
	NumReferences    int      `json:"num_references"`
	Found            string   `json:"found"`
	Text             string   `json:"text"`
	TokenIDs         []int32  `json:"token_ids"`
	Attached         []string `json:"attached"`
	FinishReason     string   `json:"finish_reason"`
	CompletionTokens int32    `json:"completion_tokens"`
	Error            failure  `json:"error"`
	CancelledWith    string   `json:"cancelled_with"`
}

type failure struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
	Field  string `json:"field"`
	Remedy string `json:"remedy"`
}

func main() {
	decoder := flag.String("decoder", memory3.DefaultDecoder, "the decoder's address")
	retriever := flag.String("retriever", memory3.DefaultRetriever, "the retriever's address")
	flag.Parse()
	client, err := memory3.Connect(memory3.Options{Decoder: *decoder, Retriever: *retriever})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	var result outcome
	for _, step := range []func(context.Context, *memory3.Client, *outcome) error{
		add, search, generate, meetAnError, stopEarly,
	} {
		if err := step(ctx, client, &result); err != nil {
			log.Fatal(err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func add(ctx context.Context, client *memory3.Client, result *outcome) error {
	if _, err := client.CreateBank(ctx, bank); err != nil {
		return err
	}
	added, err := client.AddDocuments(ctx, bank, &memory3v1.Document{Text: document, Source: "lighthouse.txt"})
	for _, each := range added {
		result.NumReferences += len(each.GetReferenceIds())
	}
	return err
}

func search(ctx context.Context, client *memory3.Client, result *outcome) error {
	hits, err := client.Search(ctx, bank, question, 1)
	if err == nil && len(hits) == 1 {
		result.Found = hits[0].GetReference().GetText()
	}
	return err
}

func generate(ctx context.Context, client *memory3.Client, result *outcome) error {
	stream, err := client.Generate(ctx, request(bank, 24))
	if err != nil {
		return err
	}
	for stream.Next() {
		result.Text += stream.Delta().GetText()
		result.TokenIDs = append(result.TokenIDs, stream.Delta().GetTokenIds()...)
		for _, reference := range stream.Attached().GetReferences() {
			result.Attached = append(result.Attached, reference.GetId())
		}
		if finish := stream.Finish(); finish != nil {
			result.FinishReason = finish.GetReason().String()
			result.CompletionTokens = finish.GetUsage().GetCompletionTokens()
		}
	}
	return stream.Err()
}

func meetAnError(ctx context.Context, client *memory3.Client, result *outcome) error {
	stream, err := client.Generate(ctx, request("clients-go-absent", 8))
	if err != nil {
		return err
	}
	for stream.Next() {
	}
	var known *memory3.Error
	if !errors.As(stream.Err(), &known) {
		return errors.New("a bank that does not exist was read")
	}
	result.Error = failure{int(known.Code), known.Reason, known.Field, known.Remedy}
	return nil
}

func stopEarly(ctx context.Context, client *memory3.Client, result *outcome) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Generate(ctx, request(bank, 400))
	if err != nil {
		return err
	}
	for stream.Next() {
		if stream.Delta() != nil {
			cancel()
		}
	}
	result.CancelledWith = status.Code(stream.Err()).String()
	return nil
}

func request(bank string, maxTokens int32) *memory3v1.GenerateRequest {
	return &memory3v1.GenerateRequest{
		Prompt:   question,
		Bank:     memory3.BankName(bank),
		Sampling: &memory3v1.SamplingParameters{MaxTokens: &maxTokens, IgnoreEos: true},
		Memory:   &memory3v1.MemoryOptions{RetrievalTimeout: durationpb.New(10 * time.Second)},
	}
}
