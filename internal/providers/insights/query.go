package insights

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// The actions that reading asks for. They are of the management plane: Reader,
// Monitoring Reader and Log Analytics Reader have them.
// Source: "Azure permissions for Monitor", Microsoft.Insights.
const (
	ActionQuery  = "Microsoft.Insights/components/query/read"
	ActionEvents = "Microsoft.Insights/components/api/read"
)

// Ask is what a query says.
type Ask struct {
	Query        string   `json:"query"`
	Timespan     string   `json:"timespan"`
	Applications []string `json:"applications"`
	Workspaces   []string `json:"workspaces"`
}

// queries are the management plane's way to what components collect.
// Source: "Azure Resource Manager API" of Log Analytics and Application Insights.
func (l *Log) queries() []arm.Endpoint {
	const path = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/Microsoft.Insights/components/{componentName}/query"
	versions := []string{"2018-04-20", "2014-12-01-preview"}
	return []arm.Endpoint{
		{Method: http.MethodPost, Path: path, APIVersions: versions, Handle: l.query},
		{Method: http.MethodGet, Path: path, APIVersions: versions, Handle: l.query},
	}
}

// query asks for the same right as the API of the data plane.
func (l *Log) query(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + r.Params["resourceGroupName"] + "/providers/" + namespace + "/components/" + r.Params["componentName"])
	if err != nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidResourceId", "The path is no resource id: %v.", err)
	}
	if err := arm.Authorise(ctx, ActionQuery, id); err != nil {
		return nil, err
	}
	var ask Ask
	if len(r.Body) > 0 {
		if err := json.Unmarshal(r.Body, &ask); err != nil {
			return nil, apierr.New(apierr.BadRequest, "BadArgumentError", "The body is no JSON object with a 'query', and perhaps a 'timespan'.")
		}
	}
	if q := r.HTTP.URL.Query(); r.HTTP.Method == http.MethodGet {
		ask.Query, ask.Timespan = q.Get("query"), q.Get("timespan")
	}
	out, err := l.kept.Query(ctx, id, ask)
	if errors.Is(err, store.ErrNotFound) {
		return nil, arm.NotFound(id)
	}
	if err != nil {
		return nil, err
	}
	return &arm.Response{Body: out}, nil
}
