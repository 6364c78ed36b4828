package server

import (
	"context"
	"errors"
	"net/http"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/web"
)

// maxArchive is how long an archive of images may be.
const maxArchive = 64 << 30

// ImageAnswer is what loading an archive gave.
type ImageAnswer struct {
	Names    []string `json:"names"`
	Clusters []string `json:"clusters,omitempty"` // names of those that got it, where none was asked for
}

// ImageState is an image that a cluster has.
type ImageState struct {
	Names  []string `json:"names"`
	Digest string   `json:"digest"`
	Bytes  int64    `json:"bytes"`
	Nodes  []string `json:"nodes"`
}

// imagesHandler takes archives of images for a cluster or for all, and lists
// what one has: for the user of the state folder alone.
func (s *Server) imagesHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/images", func(w http.ResponseWriter, r *http.Request) {
		a, err := s.loadEverywhere(r.Context(), r.Body)
		tellAdmin(w, r, a, err)
	})
	mux.HandleFunc("POST /v1/clusters/{uid}/images", func(w http.ResponseWriter, r *http.Request) {
		names, err := s.cfg.Nodes.LoadImage(r.Context(), r.PathValue("uid"), r.Body)
		tellAdmin(w, r, ImageAnswer{Names: names}, err)
	})
	mux.HandleFunc("GET /v1/clusters/{uid}/images", func(w http.ResponseWriter, r *http.Request) {
		list, err := s.images(r.Context(), r.PathValue("uid"))
		tellAdmin(w, r, list, err)
	})
	surface := &web.Surface{Name: "admin", Handler: mux, MaxBody: maxArchive, Timeout: -1}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.front.Serve(surface, w, r) })
}

func (s *Server) images(ctx context.Context, uid string) ([]ImageState, error) {
	all, err := s.cfg.Nodes.Images(ctx, uid)
	if err != nil {
		return nil, err
	}
	out := []ImageState{}
	for _, i := range all {
		out = append(out, ImageState{i.Names, i.Digest, i.Size, i.Nodes})
	}
	return out, nil
}

// tellAdmin answers on the admin socket.
func tellAdmin(w http.ResponseWriter, r *http.Request, answer any, err error) {
	if err == nil {
		web.WriteJSON(w, http.StatusOK, answer)
		return
	}
	e := apierr.From(agentError(err))
	web.EventFrom(r.Context()).Fail(e)
	web.WriteError(w, e)
}

// agentError is what the node agent's error means to who asked the server.
func agentError(err error) error {
	switch {
	case errors.Is(err, node.ErrNoAgent):
		return apierr.New(apierr.Conflict, "NoNodeAgent", "No node agent runs, so no cluster has nodes. Start Lazurite with: sudo laz up").WithCause(err)
	case errors.Is(err, node.ErrNotFound):
		return apierr.New(apierr.NotFound, "NotFound", "The node agent knows no such cluster.").WithCause(err)
	case errors.Is(err, node.ErrInvalid):
		return apierr.New(apierr.BadRequest, "Invalid", "%v.", err)
	case errors.Is(err, node.ErrUnavailable):
		return apierr.New(apierr.Conflict, "Unavailable", "%v.", err)
	case errors.Is(err, context.Canceled):
		return err
	}
	// Whoever can open the admin socket may see what went wrong on the machine.
	return apierr.New(apierr.Conflict, "NodeAgent", "%v.", err).WithCause(err)
}
