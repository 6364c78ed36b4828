package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
)

// Instance names what belongs to a state folder: 8 hexadecimal digits, in the
// names of all links, namespaces, cgroups and mounts that its agent makes, so
// that what a crash left is found again and two state folders never collide.
// home is the folder's path; other paths to the same folder give the same.
func Instance(home string) (string, error) {
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("naming the state folder: %w", err)
	}
	// The folder itself need not be there yet, nor any more.
	for dir, rest := abs, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			abs = filepath.Join(real, rest)
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	sum := sha256.Sum256([]byte(abs))
	return hex.EncodeToString(sum[:4]), nil
}

// RunFolder is root's folder of the instance, gone after a restart of the
// machine. Nobody else can put anything there, so what answers at the socket
// in it is root's.
func RunFolder(instance string) string { return "/run/lazurite-" + instance }

// Socket is where the agent of the instance listens.
func Socket(instance string) string { return filepath.Join(RunFolder(instance), "agent.sock") }
