package backupfile_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/backupfile"
	"github.com/agentry/agentry/internal/errs"
)

func write(t *testing.T, records ...backupfile.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := backupfile.NewWriter(&b, backupfile.Header{
		Format: backupfile.Format, ClusterID: "c", Epoch: 3, Revision: 90, Taken: time.Unix(1_700_000_000, 0).UTC(), Version: "v", KEK: "k",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(b []byte) (backupfile.Header, []backupfile.Record, error) {
	r, err := backupfile.NewReader(bytes.NewReader(b))
	if err != nil {
		return backupfile.Header{}, nil, err
	}
	var out []backupfile.Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header, out, nil
		}
		if err != nil {
			return r.Header, out, err
		}
		out = append(out, rec)
	}
}

var some = []backupfile.Record{
	{Key: "/a", Value: []byte{}, CreateRevision: 1, ModRevision: 1},
	{Key: "/b", Value: []byte("value"), CreateRevision: 2, ModRevision: 80},
	{Key: "/c", Value: bytes.Repeat([]byte("x"), 300), CreateRevision: 90, ModRevision: 90},
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for name, records := range map[string][]backupfile.Record{"none": nil, "some": some} {
		h, got, err := read(write(t, records...))
		if err != nil || h.ClusterID != "c" || h.Revision != 90 {
			t.Errorf("%s: header %+v, %v", name, h, err)
		}
		if diff := cmp.Diff(records, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// TestNothingSpoiledIsTaken: a file that was cut anywhere, changed in any byte or written on is refused, and as what it is.
func TestNothingSpoiledIsTaken(t *testing.T) {
	whole := write(t, some...)
	for n := range whole {
		if _, _, err := read(whole[:n]); !errs.Is(err, errs.Invalid) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
		for _, bit := range []byte{1, 0x80} {
			spoiled := bytes.Clone(whole)
			spoiled[n] ^= bit
			if _, _, err := read(spoiled); !errs.Is(err, errs.Invalid) {
				t.Fatalf("byte %d changed: %v", n, err)
			}
		}
	}
	if _, _, err := read(append(whole, 0)); !errs.Is(err, errs.Invalid) {
		t.Errorf("written on: %v", err)
	}
}

func TestOrderAndRevisionsAreHeld(t *testing.T) {
	for name, records := range map[string][]backupfile.Record{
		"descending":           {some[1], some[0]},
		"twice":                {some[0], some[0]},
		"never made":           {{Key: "/a", ModRevision: 1}},
		"written before made":  {{Key: "/a", CreateRevision: 2, ModRevision: 1}},
		"newer than the store": {{Key: "/a", CreateRevision: 2, ModRevision: 91}},
	} {
		if _, _, err := read(write(t, records...)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
