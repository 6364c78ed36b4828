package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

// million measures a page of resources among a million, over HTTP, beside the
// same page of the store alone and the same page among a thousand.
func (s *suite) million(ctx context.Context) error {
	count := 1_000_000
	if s.quick {
		count = 20_000
	}
	c := s.cloud("million")
	p, err := c.up(ctx)
	if err != nil {
		return err
	}
	var sub string
	for _, args := range [][]string{{"group", "create", "-n", "many", "-l", "eastus"}, {"identity", "create", "-g", "many", "-n", "template"}} {
		if _, err = c.exec(ctx, args...); err != nil {
			return errors.Join(err, p.stop())
		}
	}
	if sub, err = c.exec(ctx, "account", "show", "--query", "id", "-o", "tsv"); err != nil {
		return errors.Join(err, p.stop())
	}
	few, _, err := c.page(ctx, p, sub, s.n(100))
	if err := errors.Join(err, p.stop()); err != nil {
		return err
	}
	alone, err := c.fill(ctx, sub, count)
	if err != nil {
		return err
	}
	if p, err = c.up(ctx); err != nil {
		return err
	}
	started := p.took
	used, wall, err := c.page(ctx, p, sub, s.n(100))
	if err := errors.Join(err, p.stop()); err != nil {
		return err
	}
	_ = few
	s.add(figure{fmt.Sprintf("a page of 100 among %d resources, CPU", count), us(used), "the store alone, without HTTP " + us(alone), float64(used) / float64(alone), "", true})
	s.add(figure{fmt.Sprintf("a page of 100 among %d resources, wall", count), us(wall), "", 0, "", true})
	s.add(figure{fmt.Sprintf("laz up on %d resources", count), ms(started), "", 0, "", true})
	return nil
}

// page gets the first page of a hundred n times.
func (c *cloud) page(ctx context.Context, p *process, sub string, n int) (used, wall time.Duration, err error) {
	client, err := c.client()
	if err != nil {
		return 0, 0, err
	}
	token, err := c.exec(ctx, "account", "get-access-token", "--query", "accessToken", "-o", "tsv")
	if err != nil {
		return 0, 0, err
	}
	var walls []time.Duration
	to := "https://management.azure.com/subscriptions/" + sub + "/resources?api-version=2021-04-01&$top=100"
	sums, err := costs(n, target{p.pid, []*http.Client{client}, func(client *http.Client, _ int) error {
		var a struct{ Value []struct{ ID string } }
		began := time.Now()
		err := send(ctx, client, to, token, nil, &a)
		walls = append(walls, time.Since(began))
		if err == nil && len(a.Value) == 0 {
			err = errors.New("an empty page")
		}
		return err
	}})
	if err != nil {
		return 0, 0, err
	}
	return sums[0], median(walls), nil
}

// fill copies the template resource count times, straight into the store, and
// gives the CPU of reading a hundred of them from it.
func (c *cloud) fill(ctx context.Context, sub string, count int) (alone time.Duration, err error) {
	db, err := sqlstore.OpenSQLite(ctx, filepath.Join(c.home.Data(), "lazurite.db"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	prefix, template, err := find(ctx, db)
	if err != nil {
		return 0, err
	}
	const writers = 256 // the store commits what waits together
	g, gctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			for i := w; i < count; i += writers {
				name := "r" + strconv.Itoa(10_000_000+i)
				doc := store.Doc{Kind: template.Kind, Key: prefix + name, Value: []byte(strings.ReplaceAll(string(template.Value), "template", name))}
				if _, err := db.Put(gctx, doc); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	const reads = 200
	before := ownCPU()
	for range reads {
		docs, err := db.List(ctx, store.Query{Prefix: prefix, Limit: 100})
		if err != nil || len(docs) != 100 {
			return 0, fmt.Errorf("%d documents: %w", len(docs), err)
		}
	}
	return (ownCPU() - before) / reads, nil
}

// find looks for the template's document.
func find(ctx context.Context, db store.Store) (prefix string, d store.Doc, err error) {
	for after := ""; ; {
		docs, err := db.List(ctx, store.Query{After: after})
		if err != nil || len(docs) == 0 {
			return "", d, errors.Join(err, errors.New("the template is not in the store"))
		}
		for _, d := range docs {
			if p, ok := strings.CutSuffix(d.Key, "/userassignedidentities/template"); ok {
				return p + "/userassignedidentities/", d, nil
			}
			after = d.Key
		}
	}
}
