package memory3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	memory3v1 "memory3/v1"
)

const (
	// DefaultDecoder is where a decoder listens unless it is told otherwise.
	DefaultDecoder = "127.0.0.1:7300"
	// DefaultRetriever is where a retriever listens unless it is told otherwise.
	DefaultRetriever = "127.0.0.1:7301"

	// Servers take pings half as far apart for a flood.
	keepaliveTime = 60 * time.Second
	maxMessage    = 64 << 20

	// Calls with one answer are tried again while nothing answers; streams are the caller's to
	// begin again.
	serviceConfig = `{
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
	}`
)

// Options say where the services are and how to reach them. The zero value is a stack on this
// machine, without TLS.
type Options struct {
	// Decoder and Retriever are gRPC targets, such as "dns:///decoder:7300".
	Decoder, Retriever string
	// Token is sent as a bearer token with every call; it needs RootCertificates.
	Token string
	// RootCertificates, in PEM, switches TLS on.
	RootCertificates []byte
}

// Client is connected to a decoder and a retriever; it may be used by many goroutines at once.
type Client struct {
	// Retriever and Decoder are the generated stubs, for what has no method here.
	Retriever memory3v1.RetrieverServiceClient
	Decoder   memory3v1.DecoderServiceClient

	connections []*grpc.ClientConn
}

// Connect makes a client. It returns before the services have been reached: the first call waits
// for them, as long as its context allows.
func Connect(options Options) (*Client, error) {
	dial, err := dialOptions(options)
	if err != nil {
		return nil, err
	}
	client := &Client{}
	for _, target := range []string{or(options.Decoder, DefaultDecoder), or(options.Retriever, DefaultRetriever)} {
		connection, err := grpc.Dial(target, dial...)
		if err != nil {
			client.Close()
			return nil, fmt.Errorf("connecting to %s: %w", target, err)
		}
		client.connections = append(client.connections, connection)
	}
	client.Decoder = memory3v1.NewDecoderServiceClient(client.connections[0])
	client.Retriever = memory3v1.NewRetrieverServiceClient(client.connections[1])
	return client, nil
}

// Close ends the connections and every call on them.
func (c *Client) Close() {
	for _, connection := range c.connections {
		connection.Close()
	}
}

// CreateBank makes a bank, or leaves the one of that name as it is.
func (c *Client) CreateBank(ctx context.Context, bank string) (*memory3v1.Bank, error) {
	response, err := c.Retriever.CreateBank(ctx, &memory3v1.CreateBankRequest{
		Bank:          &memory3v1.Bank{Name: BankName(bank)},
		AllowExisting: true,
	})
	return response.GetBank(), typed(err)
}

// AddDocuments cuts texts into references and keeps them. What is returned has been written
// durably. A document that cannot be kept is an error of its own in its result.
func (c *Client) AddDocuments(
	ctx context.Context, bank string, documents ...*memory3v1.Document,
) ([]*memory3v1.AddDocumentResult, error) {
	stream, err := c.Retriever.AddDocuments(ctx)
	if err != nil {
		return nil, typed(err)
	}
	request := &memory3v1.AddDocumentsRequest{Bank: BankName(bank), Documents: documents}
	// io.EOF: the server has ended the stream, and Recv says why.
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, typed(err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, typed(err)
	}
	var results []*memory3v1.AddDocumentResult
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return results, typed(err)
		}
		results = append(results, response.GetResults()...)
	}
}

// Search finds the k references that are nearest to a text, best first.
func (c *Client) Search(
	ctx context.Context, bank, text string, k int,
) ([]*memory3v1.SearchHit, error) {
	response, err := c.Retriever.Search(ctx, &memory3v1.SearchRequest{
		Bank:    BankName(bank),
		Queries: []*memory3v1.Query{{What: &memory3v1.Query_Text{Text: text}}},
		K:       int32(k),
	})
	if err != nil {
		return nil, typed(err)
	}
	if len(response.GetResults()) != 1 {
		return nil, &Error{Code: codes.Internal, Message: "one query was asked, and not one was answered"}
	}
	return response.GetResults()[0].GetHits(), nil
}

// Generate begins an answer. Cancel the context to stop it early.
func (c *Client) Generate(
	ctx context.Context, request *memory3v1.GenerateRequest,
) (*GenerateStream, error) {
	stream, err := c.Decoder.Generate(ctx, request)
	if err != nil {
		return nil, typed(err)
	}
	return &GenerateStream{stream: stream}, nil
}

// BankName is the resource name of a bank: "docs" becomes "banks/docs".
func BankName(bank string) string {
	const collection = "banks/"
	if len(bank) > len(collection) && bank[:len(collection)] == collection {
		return bank
	}
	return collection + bank
}

func dialOptions(options Options) ([]grpc.DialOption, error) {
	dial := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime}),
		grpc.WithDefaultCallOptions(
			grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxMessage),
		),
	}
	if len(options.RootCertificates) == 0 {
		if options.Token != "" {
			return nil, errors.New("a token would travel in the open: give RootCertificates too")
		}
		return append(dial, grpc.WithInsecure()), nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(options.RootCertificates) {
		return nil, errors.New("RootCertificates holds no certificate in PEM")
	}
	transport := credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	dial = append(dial, grpc.WithTransportCredentials(transport))
	if options.Token != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer(options.Token)))
	}
	return dial, nil
}

// bearer sends a token with every call, over TLS alone.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
