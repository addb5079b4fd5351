package etcdstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/errs"
)

// claimFile says in a data directory which member of which cluster it is of; a single member's has none.
const claimFile = "cluster.json"

// claimed is what it holds.
type claimed struct {
	Name    string          `json:"name"`
	Members []ClusterMember `json:"members"` // by name
}

func (c claimed) list() string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.Name+"="+m.Address)
	}
	return strings.Join(out, ",")
}

// claim checks that the data directory is this member's, and takes an empty one.
func (cfg ClusterConfig) claim() error {
	mine := claimed{Name: cfg.Name, Members: slices.SortedFunc(slices.Values(cfg.Members), func(a, b ClusterMember) int { return strings.Compare(a.Name, b.Name) })}
	was, found, err := readClaim(cfg.Dir)
	if err != nil {
		return err
	}
	used, err := hasData(cfg.Dir)
	switch {
	case err != nil:
		return err
	case !used:
		return writeClaim(cfg.Dir, mine)
	case !found:
		return errs.New(errs.Precondition, "it holds the data of a control plane without --cluster, which can't become a member: start it without "+
			"--cluster, take `agentctl cluster backup`, start the cluster with empty data directories, then `agentctl cluster restore`")
	case was.Name != mine.Name:
		return errs.New(errs.Precondition, "it is of member %s, not of %s: name the right data directory or member", was.Name, mine.Name)
	case was.list() != mine.list():
		return errs.New(errs.Precondition, "its members are %s, not %s: the list can't change; give the old one, or make a new cluster "+
			"from a backup (agentctl cluster backup, then restore)", was.list(), mine.list())
	default:
		return nil
	}
}

// alone refuses the data directory of a cluster's member to a single one.
func alone(dir string) error {
	was, found, err := readClaim(dir)
	if err != nil || !found {
		return err
	}
	if used, err := hasData(dir); err != nil || !used {
		return err
	}
	return errs.New(errs.Precondition, "it is of member %s of a cluster: start it with --cluster %s --cluster-name %s", was.Name, was.list(), was.Name)
}

func hasData(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, "etcd", "member"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func readClaim(dir string) (c claimed, found bool, err error) {
	path := filepath.Join(dir, claimFile)
	b, err := os.ReadFile(path) //nolint:gosec // G304: below the data directory that a person chose
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, false, errs.New(errs.Precondition, "%s can't be read: %w", path, err)
	}
	return c, true, nil
}

// writeClaim replaces the file whole, before etcd writes anything.
func writeClaim(dir string, c claimed) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, claimFile)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // G304: below the data directory that a person chose
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("note the members: %w", err)
	}
	return os.Rename(path+".tmp", path)
}
