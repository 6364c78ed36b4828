package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// installKey is where the first start leaves what it decided.
const installKey = "system/install"

// installation is who and what the first start made.
type installation struct {
	Tenant       string    `json:"tenant"`
	Subscription string    `json:"subscription"`
	Owner        string    `json:"owner"` // object id
	OwnerUPN     string    `json:"ownerUPN"`
	Created      time.Time `json:"created"`
	Complete     bool      `json:"complete"` // everything that it names is there

	rev int64
}

const (
	ownerName        = "Owner"
	tenantName       = "Lazurite"
	subscriptionName = "Lazurite"
	ownerDomain      = "lazurite.onmicrosoft.com"
)

// install reads what the first start decided or, at the first start, decides
// it. Of several replicas that start at once one decides for all.
func install(ctx context.Context, s store.Store) (*installation, error) {
	for {
		doc, err := s.Get(ctx, installKey)
		if err == nil {
			in := &installation{rev: doc.Rev}
			if err := json.Unmarshal(doc.Value, in); err != nil {
				return nil, fmt.Errorf("reading what the first start made: %w", err)
			}
			return in, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		in := &installation{
			Tenant: uuid.NewString(), Subscription: uuid.NewString(), Owner: uuid.NewString(),
			OwnerUPN: "owner@" + ownerDomain, Created: time.Now().UTC(),
		}
		if err := in.save(ctx, s); err == nil {
			return in, nil
		} else if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
}

func (in *installation) save(ctx context.Context, s store.Store) error {
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding what the first start made: %w", err)
	}
	in.rev, err = s.Put(ctx, store.Doc{Key: installKey, Rev: in.rev, Kind: "system", Value: b})
	return err
}

// complete makes tenant, subscription, owner and the owner's roles. It may be
// cut off anywhere and run again; the password of a run that was cut off is
// replaced, since nobody saw it.
func (in *installation) complete(ctx context.Context, s store.Store, d *directory.Directory, p *authorization.Authorizer) (*Welcome, error) {
	if in.Complete {
		return nil, nil
	}
	var password string
	g, gctx := errgroup.WithContext(ctx) // the store commits together what waits together
	g.Go(func() error {
		return d.SetTenant(gctx, directory.Tenant{DisplayName: tenantName, Domains: []string{ownerDomain}})
	})
	g.Go(func() (err error) {
		password, err = in.owner(gctx, d, p)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("making the tenant and its owner: %w", err)
	}
	in.Complete = true
	if err := in.save(ctx, s); err != nil {
		return nil, err
	}
	return &Welcome{Owner: in.OwnerUPN, Password: password, Tenant: in.Tenant, Subscription: in.Subscription}, nil
}

// owner makes the owner with its roles and gives the password, which is stored by then.
func (in *installation) owner(ctx context.Context, d *directory.Directory, p *authorization.Authorizer) (password string, err error) {
	_, err = d.User(in.Owner)
	if errors.Is(err, directory.ErrNotFound) {
		_, err = d.CreateUser(ctx, directory.User{ObjectID: in.Owner, UPN: in.OwnerUPN, DisplayName: ownerName, Mail: in.OwnerUPN}, "")
	}
	if err != nil {
		return "", err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := d.AssignRole(ctx, in.Owner, directory.GlobalAdministrator)
		return err
	})
	g.Go(func() error {
		return p.Assign(ctx, rid.MustParse("/subscriptions/"+in.Subscription), rbac.Owner, in.Owner)
	})
	g.Go(func() (err error) {
		password, err = d.GeneratePassword(ctx, in.Owner)
		return err
	})
	err = g.Wait()
	return password, err
}
