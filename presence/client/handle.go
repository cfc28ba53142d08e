package client

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// take handles one frame. It gives where the gateway redirects to, or an error that
// ends the connection.
func (s *session) take(ctx context.Context, f *frame) (*url.URL, error) {
	switch f.kind {
	case typeMessage:
		return nil, s.takeMessage(ctx, f.message)
	case typeSettled:
		s.forget(f.ids)
	case typeWithdraw:
		return nil, s.takeWithdraw(ctx, f)
	case typeRedirect:
		return redirected(s.from, f.url)
	case typeError:
		s.said = f.code + ": " + f.text
	default:
		s.cfg.Logger.Debug("a frame of an unknown type is ignored", "type", clip(f.kind))
	}
	return nil, nil
}

// takeMessage does the duties of the protocol's section 3: look, show, remember,
// acknowledge.
func (s *session) takeMessage(ctx context.Context, m Message) error {
	if _, repeat := s.known[m.ID]; repeat {
		if err := s.keep(m.ID); err != nil {
			return err
		}
		return s.acknowledge(m.ID)
	}
	if len(s.known) >= MaxUnsettled {
		s.trouble(fmt.Errorf("message %s: %w", m.ID, ErrFull))
		return nil
	}
	if s.isWithdrawn(m.ID) { // while it waited; there is nothing to be taken off then
		if err := s.keep(m.ID); err != nil {
			return err
		}
	} else if shown, err := s.show(ctx, m); err != nil || !shown {
		return err
	}
	s.progress = true
	return s.acknowledge(m.ID)
}

// takeWithdraw takes messages off the display, remembers that, and acknowledges it. To do
// it twice does no harm, so that the order is always this one.
func (s *session) takeWithdraw(ctx context.Context, f *frame) error {
	defer s.noteWithdrawn(f.ids, -1)
	_, repeat := s.known[f.id]
	switch {
	case s.cfg.OnWithdraw == nil: // it was not asked for
		return nil
	case !repeat && f.id != "" && len(s.known) >= MaxUnsettled:
		s.trouble(fmt.Errorf("withdrawal %s: %w", f.id, ErrFull))
		return nil
	case !repeat:
		if err := s.cfg.OnWithdraw(ctx, f.ids); err != nil {
			s.trouble(fmt.Errorf("withdraw %d messages: %w", len(f.ids), err))
			return nil
		}
	}
	if f.id == "" {
		return nil
	}
	if err := s.keep(f.id); err != nil {
		return err
	}
	s.progress = s.progress || !repeat
	return s.acknowledge(f.id)
}

// noteWithdrawn counts withdrawals that wait to be handled in or out.
func (s *session) noteWithdrawn(ids []string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if s.mu.withdrawn[id] += n; s.mu.withdrawn[id] <= 0 {
			delete(s.mu.withdrawn, id)
		}
	}
}

// isWithdrawn reports whether a withdrawal of a message waits behind it.
func (s *session) isWithdrawn(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.withdrawn[id] > 0
}

// show shows a message and remembers it, in the order that was asked for.
func (s *session) show(ctx context.Context, m Message) (shown bool, err error) {
	if s.cfg.Order == StoreFirst {
		if err := s.keep(m.ID); err != nil {
			delete(s.known, m.ID) // it was not shown
			return false, err
		}
		if err := s.sync(); err != nil {
			s.undo(m.ID)
			return false, err
		}
	}
	if err := s.cfg.OnMessage(ctx, m); err != nil {
		s.trouble(fmt.Errorf("show message %s: %w", m.ID, err))
		if s.cfg.Order == StoreFirst {
			s.undo(m.ID)
		}
		return false, nil
	}
	return true, s.keep(m.ID)
}

// undo forgets a message that was remembered and then not shown. If that does not
// become durable before a crash, the message is lost: StoreFirst is at most once.
func (s *session) undo(id string) { s.forget([]string{id}) }

// forget removes ids from the memory. An error of the store does no harm: what it
// still has is named in the first hello of the next Run and settled again.
func (s *session) forget(ids []string) {
	var had []string
	for _, id := range ids {
		if _, ok := s.known[id]; ok {
			delete(s.known, id)
			had = append(had, id)
		}
	}
	if len(had) == 0 {
		return
	}
	s.unsynced = true
	s.soon()
	if err := s.cfg.Store.Forget(had); err != nil {
		s.trouble(fmt.Errorf("forget what is settled: %w", err))
	}
}

// acknowledge puts an id that the store has into the next acknowledgement.
func (s *session) acknowledge(id string) error {
	s.acks = append(s.acks, id)
	if len(s.acks) >= ackMost {
		return s.flush()
	}
	s.soon()
	return nil
}

func (s *session) soon() {
	if s.due == nil {
		s.due = time.After(s.cfg.AckDelay)
	}
}

// flush makes the memory durable and acknowledges: never the second without the
// first. What was settled meanwhile needs no acknowledgement.
func (s *session) flush() error {
	s.due = nil
	if err := s.sync(); err != nil {
		return err
	}
	ids := s.acks[:0]
	for _, id := range s.acks {
		if s.known[id] {
			ids = append(ids, id)
		}
	}
	s.acks = nil
	if len(ids) == 0 {
		return nil
	}
	data, err := ackFrame(ids)
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	if err := s.write(data); err != nil {
		s.unwritable = true
		return fmt.Errorf("acknowledge to %s: %w", s.from.Host, err)
	}
	return nil
}
