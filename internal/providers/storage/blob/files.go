package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/durable"
)

// files are the contents of all blobs, and the blocks that no blob has yet:
//
//	ACCOUNT/CONTAINER/contents/HH/ID
//	ACCOUNT/CONTAINER/contents/HH/ID.blocks  of one that was made of blocks
//	ACCOUNT/CONTAINER/blocks/HASH-OF-BLOB/HEX-OF-BLOCK-ID
//
// Accounts and containers are uids, of which each stands for one of them alone.
type files struct{ dir string }

// place is a container in files.
type place struct{ account, container string }

// block is a part of a blob.
type block struct {
	ID   string `json:"id"` // in base64, as clients send it
	Size int64  `json:"size"`
}

func (f files) folder(p place) string { return filepath.Join(f.dir, p.account, p.container) }

func (f files) content(p place, id string) string {
	return filepath.Join(f.folder(p), "contents", id[:2], id)
}

func (f files) blocks(p place, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(f.folder(p), "blocks", hex.EncodeToString(sum[:]))
}

// create begins a content under an id of its own.
func (f files) create(p place) (*os.File, string, error) {
	id := uuid.NewString()
	path := f.content(p, id)
	if err := durable.MakeDir(f.dir, filepath.Dir(path)); err != nil {
		return nil, "", err
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("make a content: %w", err)
	}
	return w, id, nil
}

// write makes a content of all that from gives; also gets it, too.
func (f files) write(p place, from io.Reader, also io.Writer) (id string, size int64, err error) {
	w, id, err := f.create(p)
	if err != nil {
		return "", 0, err
	}
	size, err = io.CopyBuffer(io.MultiWriter(w, also), struct{ io.Reader }{from}, make([]byte, 256<<10))
	return id, size, durable.Finish(w, err)
}

// link makes another content of one that is there.
func (f files) link(from place, id string, to place) (string, error) {
	made := uuid.NewString()
	path := f.content(to, made)
	if err := durable.MakeDir(f.dir, filepath.Dir(path)); err != nil {
		return "", err
	}
	if err := os.Link(f.content(from, id), path); err != nil {
		return "", fmt.Errorf("link a content: %w", err)
	}
	now := time.Now() // which keeps it from being collected before a blob has it
	if err := os.Chtimes(path, now, now); err != nil {
		return "", fmt.Errorf("link a content: %w", err)
	}
	return made, durable.SyncDir(filepath.Dir(path))
}

// remove removes a content that no blob has any more. What is being read stays
// until it has been.
func (f files) remove(p place, id string) {
	if id != "" {
		_ = os.Remove(f.content(p, id)) // what stays is collected
		_ = os.Remove(f.content(p, id) + ".blocks")
	}
}

// putBlock keeps a block for a blob until it is committed.
func (f files) putBlock(p place, name string, rawID []byte, from io.Reader, also io.Writer) (size int64, err error) {
	dir := f.blocks(p, name)
	if err := durable.MakeDir(f.dir, dir); err != nil {
		return 0, err
	}
	w, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return 0, fmt.Errorf("write a block: %w", err)
	}
	size, err = io.CopyBuffer(io.MultiWriter(w, also), struct{ io.Reader }{from}, make([]byte, 256<<10))
	if err := durable.Finish(w, err); err != nil {
		return 0, err
	}
	return size, durable.Rename(w.Name(), f.blockPath(p, name, rawID))
}

// uncommitted are the blocks that a blob could be made of, by their ids.
func (f files) uncommitted(p place, name string) (map[string]int64, error) {
	list, err := os.ReadDir(f.blocks(p, name))
	if err != nil {
		return nil, durable.SkipGone(err)
	}
	out := map[string]int64{}
	for _, e := range list {
		raw, err := hex.DecodeString(e.Name())
		if err != nil {
			continue // one that is being written
		}
		info, err := e.Info()
		if err != nil {
			if durable.SkipGone(err) == nil {
				continue
			}
			return nil, err
		}
		out[string(raw)] = info.Size()
	}
	return out, nil
}

// discard removes what was put for a blob and not committed.
func (f files) discard(p place, name string) error { return os.RemoveAll(f.blocks(p, name)) }

// piece is where a part of a new content comes from.
type piece struct {
	block
	path   string
	offset int64
}

// join makes a content of pieces.
func (f files) join(ctx context.Context, p place, pieces []piece) (id string, size int64, err error) {
	w, id, err := f.create(p)
	if err != nil {
		return "", 0, err
	}
	list := make([]block, 0, len(pieces))
	for _, x := range pieces {
		if err = ctx.Err(); err == nil {
			err = appendPiece(w, x)
		}
		if err != nil {
			break
		}
		size += x.Size
		list = append(list, x.block)
	}
	if err := durable.Finish(w, err); err != nil {
		return "", 0, err
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return "", 0, fmt.Errorf("encode blocks: %w", err)
	}
	b, err := os.OpenFile(f.content(p, id)+".blocks", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, fmt.Errorf("write blocks: %w", err)
	}
	_, err = b.Write(raw)
	return id, size, durable.Finish(b, err)
}

func appendPiece(w *os.File, x piece) error {
	r, err := os.Open(x.path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if _, err := r.Seek(x.offset, io.SeekStart); err != nil {
		return err
	}
	n, err := io.CopyN(w, r, x.Size)
	if err == nil && n != x.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// committed are the blocks of a content; none where it was made in one piece.
func (f files) committed(p place, id string) ([]block, error) {
	raw, err := os.ReadFile(f.content(p, id) + ".blocks")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	var list []block
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("decode blocks: %w", err)
	}
	return list, nil
}

// folders are the names in a folder, sorted; none where there is no such.
func folders(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, durable.SkipGone(err)
	}
	var out []string
	for _, e := range list {
		if e.IsDir() && uuid.Validate(e.Name()) == nil {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

// blockPath is where a block waits.
func (f files) blockPath(p place, name string, id []byte) string {
	return filepath.Join(f.blocks(p, name), hex.EncodeToString(id))
}
