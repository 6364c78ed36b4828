package token

import (
	"slices"
	"strings"
)

// Resource is something that a token can be for.
type Resource struct {
	Audience   string   // aud of the token, in the form that was asked for
	AppID      string   // of its service principal
	Name       string   // for messages
	FirstParty bool     // v1 tokens with a URI as audience; else v2 with the application id
	Aliases    []string // further forms, without a slash at the end
}

// The resources of the platform that Lazurite serves, with the application ids
// that Azure gives their service principals. Source: "Azure service principals
// of first-party applications", Microsoft identity platform.
var platform = []Resource{
	{Name: "Windows Azure Service Management API", AppID: "797f4846-ba00-4fd7-ba43-dac1f8f63013", FirstParty: true,
		Audience: ARM, Aliases: []string{"https://management.core.windows.net"}},
	{Name: "Azure Key Vault", AppID: "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", FirstParty: true, Audience: Vault},
	{Name: "Microsoft Graph", AppID: "00000003-0000-0000-c000-000000000000", FirstParty: true, Audience: Graph},
	{Name: "Windows Azure Active Directory", AppID: "00000002-0000-0000-c000-000000000000", FirstParty: true,
		Audience: "https://graph.windows.net"},
	{Name: "Microsoft Cognitive Services", AppID: "7d312290-28c8-473c-a0ed-8e53749b6d6d", FirstParty: true,
		Audience: CognitiveServices},
	{Name: "Azure Machine Learning Services", AppID: "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe", FirstParty: true,
		Audience: AI}, // the same principal; Azure OpenAI takes these tokens, and not those for ml.azure.com
	{Name: "Azure Machine Learning Services", AppID: "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe", FirstParty: true,
		Audience: MachineLearning},
	{Name: "Azure Machine Learning", AppID: "0736f41a-0425-4b46-bdb5-1563eff02385", FirstParty: true,
		Audience: "https://aml.azure.net"},
	{Name: "Azure Storage", AppID: "e406a681-f3d4-42a8-90b6-c2b029497af1", FirstParty: true, Audience: Storage},
	{Name: "Azure Container Registry", AppID: "6a0ec4d3-30cb-4a83-91c0-ae56bc0e3d26", FirstParty: true,
		Audience: ContainerRegistry},
	{Name: "Application Insights API", AppID: "f5c26e74-f226-4ae8-85f0-b4af0080ac9e", FirstParty: true, Audience: ApplicationInsights,
		Aliases: []string{"https://api.applicationinsights.azure.com"}},
	{Name: "Azure Kubernetes Service AAD Server", AppID: "6dae42f8-4368-4678-94ff-3960e28e3630", FirstParty: true,
		Audience: KubernetesService},
}

// The audiences of the platform's planes, as Verify takes them. Each stands for
// all forms of its resource: with and without a slash at the end, other names,
// the application id.
const (
	ARM                 = "https://management.azure.com"
	Vault               = "https://vault.azure.net"
	Graph               = "https://graph.microsoft.com"
	CognitiveServices   = "https://cognitiveservices.azure.com"
	AI                  = "https://ai.azure.com"
	MachineLearning     = "https://ml.azure.com"
	Storage             = "https://storage.azure.com"
	ContainerRegistry   = "https://containerregistry.azure.net"
	ApplicationInsights = "https://api.applicationinsights.io"
	KubernetesService   = "6dae42f8-4368-4678-94ff-3960e28e3630"
)

// Platform gives the platform resource with the audience, to which a
// configuration may add names of its own.
func Platform(audience string) (Resource, bool) {
	i := slices.IndexFunc(platform, func(r Resource) bool { return r.Audience == audience })
	if i < 0 {
		return Resource{}, false
	}
	return platform[i], true
}

// Resource finds the platform resource that name means: a URI with or without
// a slash at the end (also two, as az sends), or an application id. Its
// Audience is name as it was asked for, since clients may compare it.
func (s *Service) Resource(name string) (Resource, bool) {
	r, ok := s.find(name)
	if ok {
		r.Audience = name
	}
	return r, ok
}

// Resources lists the platform's resources.
func (s *Service) Resources() []Resource {
	return append(append([]Resource(nil), platform...), s.cfg.Resources...)
}

// find knows, beside the platform's resources, each storage account by its own
// name, as Azure does.
func (s *Service) find(name string) (Resource, bool) {
	name = fold(name)
	if strings.HasPrefix(name, "https://") && strings.HasSuffix(name, ".blob.core.windows.net") {
		name = Storage
	}
	r, ok := s.resources[name]
	return r, ok
}

// fold is what two forms of one audience have in common.
func fold(name string) string { return strings.ToLower(strings.TrimRight(name, "/")) }

func indexResources(more []Resource) map[string]Resource {
	index := map[string]Resource{}
	for _, list := range [][]Resource{platform, more} {
		for _, r := range list {
			for _, name := range append([]string{r.Audience, r.AppID}, r.Aliases...) {
				if name != "" {
					index[fold(name)] = r
				}
			}
		}
	}
	return index
}

// canonical is the audience that stands for all forms of one resource.
func (s *Service) canonical(audience string) string {
	if r, ok := s.find(audience); ok {
		return fold(r.Audience)
	}
	return audience
}
