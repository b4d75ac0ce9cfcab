package memory3

import (
	"errors"
	"io"

	memory3v1 "memory3/v1"
)

// GenerateStream is an answer on its way. Read it to its end with Next, or cancel its context.
type GenerateStream struct {
	stream  memory3v1.DecoderService_GenerateClient
	current *memory3v1.GenerateResponse
	err     error
}

// Next waits for the next event; false at the end, of which Err says whether it was a good one.
func (s *GenerateStream) Next() bool {
	if s.err != nil {
		return false
	}
	s.current, s.err = s.stream.Recv()
	return s.err == nil
}

// Delta is the text that this event brings; nil if it brings none.
func (s *GenerateStream) Delta() *memory3v1.TextDelta { return s.current.GetDelta() }

// Attached tells which memories the next chunk of 64 tokens reads; nil if this event does not.
func (s *GenerateStream) Attached() *memory3v1.ChunkMemories { return s.current.GetAttached() }

// Finish is the end of one choice: why, what was used, what was read; nil if this is no end.
func (s *GenerateStream) Finish() *memory3v1.Finish { return s.current.GetFinish() }

// Err is what ended the stream; nil after a complete answer.
func (s *GenerateStream) Err() error {
	if errors.Is(s.err, io.EOF) {
		return nil
	}
	return typed(s.err)
}
