package memory3

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const errorDomain = "memory3"

// Error is what a service answered instead. Decide by Code and Reason, never by Message.
type Error struct {
	Code    codes.Code
	Message string
	// Reason is one of the table in memory3/rpc/README.md, such as CHECKPOINT_MISMATCH; empty if
	// the error did not come from a service of memory3.
	Reason string
	// Field is the field of the request that is at fault, Remedy what to do; empty if not known.
	Field, Remedy string
	// RetryAfter is when to try again; 0 if the service does not say.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	text := e.Code.String()
	if e.Reason != "" {
		text += " " + e.Reason
	}
	text = fmt.Sprintf("%s: %s", text, e.Message)
	if e.Field != "" {
		text += fmt.Sprintf(" (%s)", e.Field)
	}
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// GRPCStatus lets status.FromError and status.Code read the error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// typed makes an *Error of what a call returned; nil of nil.
func typed(err error) error {
	if err == nil {
		return nil
	}
	answered := status.Convert(err)
	result := &Error{Code: answered.Code(), Message: answered.Message()}
	for _, detail := range answered.Details() {
		switch known := detail.(type) {
		case *errdetails.ErrorInfo:
			if known.GetDomain() == errorDomain {
				result.Reason = known.GetReason()
				result.Field = known.GetMetadata()["field"]
				result.Remedy = known.GetMetadata()["remedy"]
			}
		case *errdetails.RetryInfo:
			result.RetryAfter = known.GetRetryDelay().AsDuration()
		}
	}
	return result
}
