// Package pgtest starts a PostgreSQL server for tests: Debian's, or whichever
// is installed. It needs no rights and no network.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// start runs the one server of this test binary.
var start = sync.OnceValues(startServer)

var errMissing = errors.New("no PostgreSQL server is installed (Debian: apt-get install postgresql)")

// Start gives the connection string of a new, empty database. The server runs
// until the test binary ends, however it ends. Without an installed server the
// test is skipped, or fails if the environment says CI=true.
func Start(t testing.TB) string {
	t.Helper()
	srv, err := start()
	if errors.Is(err, errMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := "t" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := srv.exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return srv.dsn(name)
}

// Cut breaks all connections to the database of dsn, which Start gave, and
// refuses new ones until the function that it gives is called.
func Cut(t testing.TB, dsn string) (mend func()) {
	t.Helper()
	srv, err := start()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := cfg.Database
	for _, st := range []string{
		"ALTER DATABASE " + name + " ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'",
	} {
		if err := srv.exec(t.Context(), st); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		if err := srv.exec(t.Context(), "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true"); err != nil {
			t.Fatal(err)
		}
	}
}

// server is a running PostgreSQL that listens on a socket in dir alone.
type server struct {
	dir   string
	alive io.Closer // the server stops when it closes: with this process at the latest
}

func (s *server) dsn(name string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", s.dir, name)
}

// exec runs a statement outside the tests' databases.
func (s *server) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// script runs the server until its standard input ends, then removes its
// directory.
const script = `"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=200 >"$2/log" 2>&1 &
read -r _
kill -INT $!
wait
rm -rf "$2"`

func startServer() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true} // an interrupt of the terminal is not for it
	if os.Geteuid() == 0 {
		if attr.Credential, err = other(); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return nil, err
		}
	}
	if err := initdb(bin, dir, attr); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", bin, dir)
	cmd.Dir, cmd.SysProcAttr = dir, attr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{dir: dir, alive: in}
	return s, s.ready()
}

// initdb makes the cluster, with a collation that is not that of bytes, if it
// can, so that tests notice who relies on it.
func initdb(bin, dir string, attr *syscall.SysProcAttr) error {
	var out bytes.Buffer
	for _, locale := range [][]string{{"--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"}, {"--no-locale"}} {
		args := append([]string{"-D", dir + "/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"}, locale...)
		cmd := exec.CommandContext(context.Background(), filepath.Join(bin, "initdb"), args...)
		cmd.Dir, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = dir, attr, &out, &out
		if cmd.Run() == nil {
			return nil
		}
	}
	return fmt.Errorf("initdb: %s", out.String())
}

// ready waits until the server answers.
func (s *server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(s.dir + "/log") // what there is of it
			return errors.Join(fmt.Errorf("PostgreSQL does not answer: %w: %s", err, log), s.alive.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// binaries finds the folder of the newest installed server.
func binaries() (string, error) {
	var found []string
	for _, glob := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		dirs, err := filepath.Glob(glob)
		if err != nil {
			return "", err
		}
		found = append(found, dirs...)
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, filepath.Dir(path))
		}
	}
	for _, dir := range found {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	return "", errMissing
}

// version is the number in the path of an installation.
func version(path string) int {
	digits := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, err := strconv.Atoi(digits[0])
	if err != nil {
		return 0
	}
	return n
}

// other is an unprivileged user: PostgreSQL refuses to run as root.
func other() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
}
