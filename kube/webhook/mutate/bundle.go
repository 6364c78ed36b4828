package mutate

// BundleName is the ConfigMap and the volume of the certificates that pods
// trust, and BundleKey its one file.
const (
	BundleName = "lazurite-ca-bundle"
	BundleKey  = "ca-bundle.crt"
	bundlePath = "/var/run/secrets/lazurite/ca"
)

// Trust appends to dst the JSON patch by which all containers of the pod, init
// containers included, trust the bundle: its mount, and the variables by which
// Go, OpenSSL and Python programs, Node.js and curl find it. A variable that is
// set already is left alone.
func Trust(dst []byte, pod *Pod) []byte {
	p := newPatch(dst)
	const file = `","value":"` + bundlePath + "/" + BundleKey + `"}`
	vars := [...]variable{
		{envSSLCertFile, []byte(`{"name":"SSL_CERT_FILE` + file)},
		{envRequestsCABundle, []byte(`{"name":"REQUESTS_CA_BUNDLE` + file)},
		{envNodeExtraCACerts, []byte(`{"name":"NODE_EXTRA_CA_CERTS` + file)},
		{envCurlCABundle, []byte(`{"name":"CURL_CA_BUNDLE` + file)},
	}
	mount := []byte(`{"name":"` + BundleName + `","readOnly":true,"mountPath":"` + bundlePath + `"}`)
	for i := range pod.init {
		p.container("/spec/initContainers", i, &pod.init[i], vars[:], pod.mounts, BundleName, mount)
	}
	for i := range pod.containers {
		p.container("/spec/containers", i, &pod.containers[i], vars[:], pod.mounts, BundleName, mount)
	}
	p.volume(pod, BundleName, []byte(`{"name":"`+BundleName+`","configMap":{"name":"`+BundleName+`"}}`))
	return p.end()
}
