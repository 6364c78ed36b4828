package vaultdata

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

// Limits of a page. Source: Key Vault REST API, Get Secrets, maxresults.
const maxPage = 25

// Page says which part of a list is asked for.
type Page struct {
	Limit int    // 1..25
	After string // lower-case name or version; "" is the beginning
}

// NewPage reads the query parameters maxresults and $skiptoken; both may be "".
func NewPage(maxresults, skiptoken string) (Page, error) {
	p := Page{Limit: maxPage}
	if maxresults != "" {
		n, err := strconv.Atoi(maxresults)
		if err != nil || n < 1 || n > maxPage {
			return p, apierr.New(apierr.BadRequest, "BadParameter", "The maxresults parameter must be a number from 1 to %d, not %s.", maxPage, clip(maxresults))
		}
		p.Limit = n
	}
	if skiptoken != "" {
		raw, err := base64.RawURLEncoding.DecodeString(skiptoken)
		if err != nil || len(raw) > maxName || checkName(string(raw)) != nil {
			return p, apierr.New(apierr.BadRequest, "BadParameter", "The $skiptoken parameter is not one that this vault gave out.")
		}
		p.After = string(raw)
	}
	return p, nil
}

// List is one page of answers.
type List struct {
	Value    any     `json:"value"`
	NextLink *string `json:"nextLink"`

	next string // skiptoken of the page after; "" at the end
}

// Next is the $skiptoken of the following page, "" at the end.
func (l *List) Next() string { return l.next }

// entry is one item of a list with the name that orders it.
type entry struct {
	name string // lower case
	item any
}

// cut orders entries by name, keeps a page of them and says what comes next.
func cut(entries []entry, p Page) *List {
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	l := &List{}
	if len(entries) > p.Limit {
		entries = entries[:p.Limit]
		l.next = base64.RawURLEncoding.EncodeToString([]byte(entries[p.Limit-1].name))
	}
	items := make([]any, len(entries))
	for i, e := range entries {
		items[i] = e.item
	}
	l.Value = items
	return l
}

// heads gives up to one more entry than the page holds: those heads of one
// state for which show says true.
func (c *collection[B, X]) heads(ctx context.Context, v *Vault, p Page, deleted bool, show func(*head[B, X]) (any, bool)) ([]entry, error) {
	prefix := v.base() + c.kind.word + "/"
	kind := "keyvault." + c.kind.word
	if deleted {
		kind += ".deleted"
	}
	var out []entry
	after := prefix + p.After
	for len(out) <= p.Limit {
		docs, err := c.docs.List(ctx, store.Query{Prefix: prefix, Kind: kind, After: after, Limit: p.Limit + 1})
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", c.kind.plural, err)
		}
		for _, d := range docs {
			after = d.Key
			h, err := c.decode(d)
			if err != nil {
				return nil, err
			}
			if h.Purging || c.gone(h) {
				continue
			}
			if item, ok := show(h); ok {
				out = append(out, entry{strings.TrimPrefix(d.Key, prefix), item})
			}
		}
		if len(docs) <= p.Limit {
			break
		}
	}
	return out, nil
}

// versions gives up to one more version of a live object than the page holds.
func (c *collection[B, X]) versions(ctx context.Context, v *Vault, name string, p Page, show func(*head[B, X], *version[B]) any) ([]entry, error) {
	h, err := c.live(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return c.versionsOf(ctx, v, h, p, show)
}

func (c *collection[B, X]) versionsOf(ctx context.Context, v *Vault, h *head[B, X], p Page, show func(*head[B, X], *version[B]) any) ([]entry, error) {
	prefix := c.versionPrefix(v, h.Name)
	docs, err := c.docs.List(ctx, store.Query{Prefix: prefix, After: prefix + p.After, Limit: p.Limit + 2})
	if err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	var out []entry
	if h.Current != nil && h.Current.Version > p.After {
		out = append(out, entry{h.Current.Version, show(h, h.Current)})
	}
	for _, d := range docs {
		var a archived[B]
		if err := json.Unmarshal(d.Value, &a); err != nil {
			return nil, fmt.Errorf("decode version %q: %w", d.Key, err)
		}
		if h.Current == nil || a.Version != h.Current.Version {
			out = append(out, entry{a.Version, show(h, &a.version)})
		}
	}
	return out, nil
}
