package cli

import (
	"fmt"
	"slices"
	"strings"
)

// azNouns are the top-level words of az (2.80, with ml), so that what exists
// there and not here is told apart from a slip of the finger.
const azNouns = `account acr ad advisor afd aks ams apim appconfig appservice aro artifacts backup batch bicep billing
bot cache capacity cdn cloud cognitiveservices compute-fleet compute-recommender config configure connection consumption
container containerapp cosmosdb data-boundary databoxedge deployment deployment-scripts dls dms disk disk-access
disk-encryption-set eventgrid eventhubs extension feature feedback find functionapp group hdinsight identity image
interactive iot keyvault kusto lab lock logicapp login logout managed-cassandra managedapp managedservices maps mariadb ml
monitor mysql netappfiles network policy postgres ppg private-link provider redis relay resource resourcemanagement rest
restore-point role search security self-test servicebus sf sig signalr snapshot sql sshkey stack stack-hci staticwebapp
storage survey synapse tag term ts upgrade version vm vmss webapp webpubsub`

// azVerbs are commands of az under our nouns that aren't built.
const azVerbs = `account create-guid, account lock, account management-group, aks addon, aks app, aks approuting, aks browse,
aks check-acr, aks command, aks connection, aks disable-addons, aks enable-addons,
aks kollect, aks kanalyze, aks machine, aks maintenanceconfiguration, aks mesh,
aks operation-abort, aks pod-identity, aks snapshot, aks trustedaccess,
aks update-credentials, aks use-dev-spaces, group export, group lock, keyvault backup, keyvault region,
keyvault restore, keyvault role, keyvault security-domain, keyvault setting, keyvault storage, keyvault update-hsm,
keyvault key get-policy-template,
monitor alert, monitor metrics, monitor diagnostic-settings, monitor log-analytics, monitor action-group,
acr agentpool, acr artifact-streaming, acr build, acr cache, acr check-health, acr config, acr connected-registry, acr credential-set, acr helm,
acr import, acr manifest, acr pack, acr private-link-resource, acr replication, acr run, acr scope-map, acr show-endpoints, acr task, acr taskrun,
acr token, acr webhook, ml batch-deployment, ml batch-endpoint, ml capability-host, ml component, ml compute, ml connection, ml datastore,
ml feature-set, ml feature-store, ml feature-store-entity, ml index, ml job, ml marketplace-subscription, ml registry, ml schedule,
ml serverless-endpoint, ml data import, ml data update, ml environment update, ml model update, ml data list-materialization-status, ml data mount, ml data share, ml environment share, ml model download,
ml model package, ml model share, ml workspace join, ml workspace list-keys, ml workspace sync-keys,
network application-gateway, network asg, network bastion, network custom-ip, network ddos-protection, network dns, network express-route,
network firewall, network lb, network local-gateway, network nat, network nsg, network private-link-service, network profile,
network route-filter, network route-table, network routeserver, network traffic-manager, network virtual-appliance, network vnet-gateway,
network vpn-connection, network watcher, network list-usages, network list-service-tags, network nic create, network nic delete, network nic update, network nic ip-config,
network private-dns export, network private-dns import, network private-dns zone update, network private-dns zone export, network private-dns zone import,
network private-dns record-set a update, network private-dns record-set aaaa update, network private-dns record-set mx update, network private-dns record-set ptr update,
network private-dns record-set soa, network private-dns record-set srv update, network private-dns record-set txt update, network private-dns link vnet update,
network private-endpoint asg, network private-endpoint ip-config, network private-endpoint update, network private-endpoint dns-zone-group add,
network private-endpoint dns-zone-group remove, network public-ip prefix, network public-ip update, network vnet check-ip-address, network vnet list-available-ips,
network vnet list-endpoint-services, network vnet peering sync, network vnet peering update, network vnet subnet list-available-delegations,
network vnet subnet list-available-ips, network vnet subnet list-sharing, network vnet tap, deployment mg, deployment tenant, deployment operation mg, deployment operation tenant,
storage account blob-inventory-policy, storage account blob-service-properties, storage account encryption-scope, storage account failover, storage account file-service-properties,
storage account local-user, storage account management-policy, storage account or-policy, storage account private-endpoint-connection, storage account private-link-resource,
storage account revoke-delegation-keys, storage account show-usage, storage account task-assignment, storage blob access, storage blob copy, storage blob delete-batch,
storage blob filter, storage blob immutability-policy, storage blob incremental-copy, storage blob lease, storage blob metadata, storage blob query, storage blob restore,
storage blob rewrite, storage blob service-properties, storage blob set-legal-hold, storage blob set-tier, storage blob snapshot, storage blob sync, storage blob tag,
storage blob undelete, storage blob update, storage container immutability-policy, storage container lease, storage container legal-hold, storage container metadata,
storage container policy, storage container restore, storage container set-permission, storage container show-permission, storage container-rm, storage copy, storage cors, storage directory, storage entity, storage file, storage fs,
storage logging, storage message, storage metrics, storage queue, storage remove, storage share, storage share-rm, storage table,
provider permission, resource link, resource lock, resource move,
resource patch, role deny-assignment, config param-persist, ad ds`

// unknownNoun is the error for a first word that names nothing here.
func unknownNoun(word string, ours ...string) error {
	for _, n := range nouns() {
		ours = append(ours, n.name)
	}
	near := nearest(word, ours)
	if slices.Contains(strings.Fields(azNouns), word) {
		return &failure{status: exitUsage,
			msg:  fmt.Sprintf("'%s' exists in az and not here.", word),
			hint: didYouMean(near)}
	}
	return &failure{status: exitUsage,
		msg:  fmt.Sprintf("'%s' is misspelled or not recognized by the system.", word),
		hint: didYouMean(closeTo(word, near))}
}

// unknownVerb is the error for a word that names nothing under an existing group.
func unknownVerb(cmds []*command, words []string, used int) error {
	prefix := strings.Join(words[:used], " ") + " "
	var ours []string
	for _, c := range cmds {
		if rest, ok := strings.CutPrefix(c.path, prefix); ok {
			next, _, _ := strings.Cut(rest, " ")
			if !slices.Contains(ours, next) {
				ours = append(ours, next)
			}
		}
	}
	near := nearest(words[used], ours)
	if near != "" {
		near = prefix + near
	}
	known := strings.Split(strings.ReplaceAll(azVerbs, "\n", " "), ", ")
	if slices.Contains(known, prefix+words[used]) {
		return &failure{status: exitUsage,
			msg:  fmt.Sprintf("'%s' exists in az and not here.", prefix+words[used]),
			hint: didYouMean(near)}
	}
	return &failure{status: exitUsage,
		msg:  fmt.Sprintf("'%s' is misspelled or not recognized by the system.", words[used]),
		hint: didYouMean(closeTo(words[used], near))}
}

// closeTo is near when its last word may be word with a slip of the finger, else "".
func closeTo(word, near string) string {
	last := near[strings.LastIndexByte(near, ' ')+1:]
	if distance(word, last) > max(1, len(word)/2) && !strings.HasPrefix(last, word) && !strings.HasPrefix(word, last) {
		return ""
	}
	return near
}

func didYouMean(near string) string {
	if near == "" {
		return "See the commands that exist with --help."
	}
	return "Did you mean '" + near + "'? See the commands that exist with --help."
}

// nearest is the candidate with the fewest edits, "" when there is none.
func nearest(word string, candidates []string) string {
	best, cost := "", 1<<30
	for _, c := range candidates {
		d := distance(word, c)
		if strings.HasPrefix(c, word) || strings.HasPrefix(word, c) {
			d = 1
		}
		if d < cost {
			best, cost = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b, which are cut at 64 bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
