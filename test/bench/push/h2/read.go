package h2

import (
	"fmt"
	"math"

	"golang.org/x/net/http2"
)

// read reads one frame and does what it asks for. Answers to it are due to be written, not written.
func (c *Conn) read() error {
	f, err := c.fr.ReadFrame()
	if err != nil {
		return err
	}
	if _, ok := f.(*http2.SettingsFrame); !ok && !c.ready {
		return fmt.Errorf("%v frame before the settings", f.Header().Type)
	}
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.data(f)
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.WindowUpdateFrame:
		return c.update(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.fr.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		if f.StreamID == c.id {
			return fmt.Errorf("stream %d was reset: %v", f.StreamID, f.ErrCode)
		}
	case *http2.GoAwayFrame:
		c.going = true
		if f.ErrCode != http2.ErrCodeNo || c.id > f.LastStreamID {
			return fmt.Errorf("%w: %v %q", errGoing, f.ErrCode, f.DebugData())
		}
	case *http2.PushPromiseFrame:
		return fmt.Errorf("a promise of stream %d, which was declined", f.PromiseID)
	}
	return nil // what isn't known is ignored, as the protocol has it
}

// update widens a window and sends what waited for it.
func (c *Conn) update(f *http2.WindowUpdateFrame) error {
	w := &c.total
	switch f.StreamID {
	case 0:
	case c.id:
		w = &c.room
	default:
		return nil // of a stream before
	}
	if w.send += int64(f.Increment); w.send > math.MaxInt32 {
		return fmt.Errorf("a window of %d bytes", w.send)
	}
	return c.cut()
}

// settings takes what the server sets. Its bound on streams is not looked at: there is one at a time.
func (c *Conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			// A stream that is open gets the difference.
			c.room.send += int64(s.Val) - c.initial
			c.initial = int64(s.Val)
		case http2.SettingMaxFrameSize:
			c.maxFrame = s.Val
		default: // the others are about what isn't done here
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.ready = true
	if err := c.fr.WriteSettingsAck(); err != nil {
		return err
	}
	return c.cut()
}
