package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap/zapcore"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	defaultQuota = 2 << 30
	// keepRevisions is how many revisions compaction leaves. It runs every 5 minutes. Counting revisions bounds the
	// space whatever the rate of writes, where an hour of history wouldn't; whoever resumes from below lists again.
	keepRevisions = "10000"
	// defragAtMB is how much a defragmentation must win for a start to do one.
	defragAtMB = 256
	// snapshotEvery and catchUp bound what etcd keeps of its log: the entries that a start reads and applies again, and those
	// that stay in memory for a follower, of which this member has none. Writes wait while one is taken, so it must be rare.
	snapshotEvery, catchUp = 1000, 10
	// startWithin bounds the start, replay of the log included.
	startWithin = time.Minute
)

// EmbeddedConfig says where the embedded member keeps its data.
type EmbeddedConfig struct {
	Dir        string // made with 0700 when missing; etcd's files lie in its folder "etcd"
	QuotaBytes int64  // 0: 2 GiB
	Logger     *slog.Logger
}

// OpenEmbedded starts a single etcd member without any listener and opens a store on it. It answers Precondition
// when another process uses Dir. A member that stopped for lack of space is compacted, defragmented and, if that helped,
// made to take writes again: restarting is the remedy, or after that a larger QuotaBytes.
func OpenEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Store, error) {
	if cfg.QuotaBytes <= 0 {
		cfg.QuotaBytes = defaultQuota
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	etcd, err := start(ctx, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, err), unlock())
	}
	client := v3client.New(etcd.Server)
	s := newStore(storeParts{
		kind: store.Embedded, client: client, watching: client, quota: cfg.QuotaBytes, members: membersOf(client, etcd, nil),
		release: func() error { return errors.Join(end(client, etcd), unlock()) },
	})
	if err := s.mendSpace(ctx, etcd, cfg.Logger); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, err), s.Close())
	}
	return s, nil
}

func end(client *clientv3.Client, etcd *embed.Etcd) error {
	err := client.Close()
	etcd.Close()
	if errors.Is(err, context.Canceled) { // what its context says after a Close
		return nil
	}
	return err
}

// baseConfig is what every embedded member has in common: no listener for clients.
func baseConfig(cfg EmbeddedConfig) *embed.Config {
	c := embed.NewConfig()
	c.Dir = filepath.Join(cfg.Dir, "etcd")
	c.ListenClientUrls, c.ListenPeerUrls = nil, nil
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(cfg.Logger, zapcore.WarnLevel))
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, keepRevisions
	c.QuotaBackendBytes = cfg.QuotaBytes
	c.BootstrapDefragThresholdMegabytes = defragAtMB
	c.MaxTxnOps = store.MaxOps
	c.MaxRequestBytes = maxRequest
	return c
}

func start(ctx context.Context, cfg EmbeddedConfig) (*embed.Etcd, error) {
	if err := alone(cfg.Dir); err != nil {
		return nil, err
	}
	c := baseConfig(cfg)
	c.Name = "agentry"
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.SnapshotCount, c.SnapshotCatchUpEntries = snapshotEvery, catchUp
	if err := intact(c.Dir); err != nil {
		return nil, err
	}
	etcd, err := launch(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err = <-etcd.Err():
	case <-etcd.Server.StopNotify():
		err = errs.New(errs.Unavailable, "stopped while it started")
	case <-ctx.Done():
		err = errs.New(errs.KindOf(ctx.Err()), "not ready: %w", ctx.Err())
	}
	etcd.Close()
	return nil, err
}

// launch makes an error of what etcd panics with when its files don't fit each other.
func launch(c *embed.Config) (etcd *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = unopened(c.Dir, r, freeBytes)
		}
	}()
	return embed.StartEtcd(c)
}

// unopened says what to do where etcd didn't open a folder. It tells no cause itself; where there is no room for its log, that is one, and
// nothing is wrong with the data.
func unopened(dir string, why any, free func(dir string) (int64, bool)) error {
	if n, ok := free(dir); ok && n < wal.SegmentSizeBytes {
		return errs.New(errs.Exhausted, "%s can't be opened: %v; %d MiB are free there, etcd's log needs %d: make room and start again, the data stays as it is",
			dir, why, n>>20, wal.SegmentSizeBytes>>20)
	}
	return errs.New(errs.Precondition, "%s can't be read: %v; %s", dir, why, restoreAdvice)
}

// freeBytes is how much may still be written to the file system of a folder; false: that isn't known.
func freeBytes(dir string) (int64, bool) {
	var at syscall.Statfs_t
	if err := syscall.Statfs(dir, &at); err != nil {
		return 0, false
	}
	return int64(at.Bavail) * at.Bsize, true //nolint:gosec // G115: a disk has less than 2^63 bytes
}

// mendSpace ends a NOSPACE alarm: nobody else could, for the member has no listener.
func (s *Store) mendSpace(ctx context.Context, etcd *embed.Etcd, log *slog.Logger) error {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return s.fault("alarms", err)
	}
	if len(alarms.Alarms) == 0 {
		return nil
	}
	before := etcd.Server.Backend().Size()
	at, err := s.client.Get(ctx, "\x00", clientv3.WithKeysOnly())
	if err != nil {
		return s.fault("revision", err)
	}
	if _, err := s.client.Compact(ctx, at.Header.Revision, clientv3.WithCompactPhysical()); err != nil && kindOf(err) != errs.OutOfRange {
		return s.fault("compact", err)
	}
	if err := etcd.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	after := etcd.Server.Backend().Size()
	log.LogAttrs(ctx, slog.LevelWarn, "store ran out of space and was compacted",
		slog.Int64("bytes_before", before), slog.Int64("bytes_after", after), slog.Int64("quota_bytes", etcd.Config().QuotaBackendBytes))
	if _, err := s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return s.fault("disarm", err)
	}
	return nil
}

// lockDir takes the data directory for this process. The lock ends with the process, however that ends.
func lockDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := root.OpenFile("LOCK", os.O_RDWR|os.O_CREATE, 0o600)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := flock(f); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, errors.Join(errs.New(errs.Precondition, "data directory %s is in use by process %s", dir, pid), f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d", os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), f.Close())
	}
	return f.Close, nil
}
