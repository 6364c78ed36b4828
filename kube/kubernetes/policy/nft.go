package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// Kernel sets rules in the network namespace of this process. The zero value
// is ready; it is for one goroutine at a time.
type Kernel struct {
	current *Rules // nil: what stands is not known
}

// Set makes the rules stand, in one transaction: packets see the old rules or
// the new ones. After an error the old ones stand, and the next call replaces
// the table as a whole.
func (k *Kernel) Set(ctx context.Context, r *Rules) error {
	script := ""
	if k.current == nil {
		script = Whole(r)
	} else if script = Change(k.current, r); script == "" {
		return nil
	}
	if err := run(ctx, script); err != nil {
		if k.current == nil {
			return err
		}
		// Something else may have changed the table: replace it as a whole.
		k.current = nil
		if whole := run(ctx, Whole(r)); whole != nil {
			return errors.Join(err, whole)
		}
	}
	k.current = r
	return nil
}

// Refusal is what the rules refused of one kind.
type Refusal struct {
	Ingress             bool // refused by the destination's policies, else by the source's
	Source, Destination netip.Addr
	Protocol            string // tcp, udp, sctp
	Port                int    // the destination's
	Packets             uint64 // since the first of them
}

// Refusals lists what was refused in the last ten minutes. An error means that
// the table can't be read; the next Set writes it as a whole then.
func (k *Kernel) Refusals(ctx context.Context) ([]Refusal, error) {
	var all []Refusal
	for _, set := range []string{"refused-in", "refused-out"} {
		cmd := exec.CommandContext(ctx, "nft", "-j", "-n", "list", "set", "ip", Table, set)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			k.current = nil
			return nil, fmt.Errorf("reading what was refused: %w: %s", err, strings.TrimSpace(stderr.String()))
		}
		some, err := parseRefusals(out)
		if err != nil {
			return nil, err
		}
		for i := range some {
			some[i].Ingress = set == "refused-in"
		}
		all = append(all, some...)
	}
	return all, nil
}

// parseRefusals reads nft's JSON (libnftables-json(5)) of one set.
func parseRefusals(out []byte) ([]Refusal, error) {
	var answer struct {
		Nftables []struct {
			Set *struct {
				Elem []struct {
					Elem struct {
						Val struct {
							Concat []any `json:"concat"`
						} `json:"val"`
						Counter struct {
							Packets uint64 `json:"packets"`
						} `json:"counter"`
					} `json:"elem"`
				} `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("reading what was refused: %w", err)
	}
	var all []Refusal
	for _, object := range answer.Nftables {
		if object.Set == nil {
			continue
		}
		for _, element := range object.Set.Elem {
			r, err := refusal(element.Elem.Val.Concat)
			if err != nil {
				return nil, err
			}
			r.Packets = element.Elem.Counter.Packets
			all = append(all, r)
		}
	}
	return all, nil
}

func refusal(key []any) (Refusal, error) {
	if len(key) != 4 {
		return Refusal{}, fmt.Errorf("reading what was refused: a key of %d parts", len(key))
	}
	text := make([]string, len(key))
	for i, part := range key {
		text[i] = fmt.Sprint(part)
	}
	source, err := netip.ParseAddr(text[0])
	if err != nil {
		return Refusal{}, fmt.Errorf("reading what was refused: %w", err)
	}
	destination, err := netip.ParseAddr(text[1])
	if err != nil {
		return Refusal{}, fmt.Errorf("reading what was refused: %w", err)
	}
	protocol := text[2]
	switch protocol { // -n writes numbers
	case "6":
		protocol = "tcp"
	case "17":
		protocol = "udp"
	case "132":
		protocol = "sctp"
	}
	port, isNumber := key[3].(float64)
	if !isNumber || port < 0 || port > 65535 {
		return Refusal{}, fmt.Errorf("reading what was refused: port %v", key[3])
	}
	return Refusal{Source: source, Destination: destination, Protocol: protocol, Port: int(port)}, nil
}

// run gives nft a script on its standard input.
func run(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, firstLines(stderr.String()))
	}
	return nil
}

// firstLines keeps an error of nft readable: it repeats the line of the script.
func firstLines(text string) string {
	lines := strings.SplitN(strings.TrimSpace(text), "\n", 7)
	return strings.Join(lines[:min(len(lines), 6)], "\n")
}
