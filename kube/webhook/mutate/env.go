package mutate

import "encoding/json"

// envSet is a set of the variables that a mutation may add; bit n is envNames[n].
type envSet uint16

const (
	envClientID envSet = 1 << iota
	envTenantID
	envTokenFile
	envAuthorityHost
	envTokenProxy
	envSNIName
	envCAFile
	envCAData
	envSSLCertFile
	envRequestsCABundle
	envNodeExtraCACerts
	envCurlCABundle
)

func envSetOf(name []byte) envSet {
	switch string(name) {
	case "AZURE_CLIENT_ID":
		return envClientID
	case "AZURE_TENANT_ID":
		return envTenantID
	case "AZURE_FEDERATED_TOKEN_FILE":
		return envTokenFile
	case "AZURE_AUTHORITY_HOST":
		return envAuthorityHost
	case "AZURE_KUBERNETES_TOKEN_PROXY":
		return envTokenProxy
	case "AZURE_KUBERNETES_SNI_NAME":
		return envSNIName
	case "AZURE_KUBERNETES_CA_FILE":
		return envCAFile
	case "AZURE_KUBERNETES_CA_DATA":
		return envCAData
	case "SSL_CERT_FILE":
		return envSSLCertFile
	case "REQUESTS_CA_BUNDLE":
		return envRequestsCABundle
	case "NODE_EXTRA_CA_CERTS":
		return envNodeExtraCACerts
	case "CURL_CA_BUNDLE":
		return envCurlCABundle
	}
	return 0
}

// variable is one environment variable, ready to be written.
type variable struct {
	bit  envSet
	json []byte // {"name":"…","value":"…"}; nil: not set
}

// newVariable leaves an empty value unset, as the rules want it.
func newVariable(bit envSet, name, value string) variable {
	if value == "" {
		return variable{bit: bit}
	}
	b := append([]byte(`{"name":"`), name...)
	b = appendString(append(b, `","value":`...), value)
	return variable{bit, append(b, '}')}
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // strings always can be
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
