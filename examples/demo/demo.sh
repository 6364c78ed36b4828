#!/usr/bin/env bash
# The demo: the Key Vault quick start against a Lazurite of its own, with a pod on a real
# cluster at its end. It keeps nothing and leaves no process behind. Without
# root there are no nodes: then it ends with a process that has the pod's
# identity, and says so.
#
#     make demo            or: LAZ=path/to/laz READER=path/to/keyvault-reader examples/demo/demo.sh
set -euo pipefail

: "${LAZ:=bin/laz}" "${READER:=bin/keyvault-reader}"
LAZ=$(realpath "$LAZ") READER=$(realpath "$READER")
LAZ_HOME=$(realpath -m "${DEMO_HOME:-.cache/demo}")
IMAGE=lazurite.dev/examples/msal-go:v1 ARCHIVE=$(dirname "$LAZ")/images/msal-go.tar
pods=
[ "$(id -u)" -ne 0 ] || pods=yes
HOME=$(mktemp -d) # az aks create --generate-ssh-keys writes there, as az does
export LAZ_HOME HOME

. "$(dirname "$0")/lib.sh"

chapter 'A cloud of its own'
"$LAZ" down --purge --yes >/dev/null 2>&1 || true
typed 'laz up -d --offline'
"$LAZ" up -d --offline --port 0 >/dev/null
typed 'eval "$(laz env)"'
eval "$("$LAZ" env)"
if [ -n "$pods" ]; then
  show 'laz image load bin/images/msal-go.tar' '' "laz image load $ARCHIVE"
fi
note "az is laz in this shell now. All state is in ${LAZ_HOME#"$PWD/"} and goes with the demo; nothing leaves this machine."

chapter 'A cluster that issues identities'
[ -n "$pods" ] || note 'Without root this cluster has an issuer and no nodes. `sudo make demo` ends with a pod.'
note "Typed as in Microsoft's quick start; of each answer one line is shown."
show 'az account show' user.name
export RESOURCE_GROUP=myResourceGroup LOCATION=eastus CLUSTER_NAME=myAKSCluster
export SERVICE_ACCOUNT_NAMESPACE=default SERVICE_ACCOUNT_NAME=workload-identity-sa
export USER_ASSIGNED_IDENTITY_NAME=myIdentity FEDERATED_IDENTITY_CREDENTIAL_NAME=myFedIdentity
export KEYVAULT_RESOURCE_GROUP=myResourceGroup KEYVAULT_NAME="myKeyVault$RANDOM" KEYVAULT_SECRET_NAME=my-secret
show 'az group create --name "${RESOURCE_GROUP}" --location "${LOCATION}"' properties.provisioningState
show 'az aks create \
  --resource-group "${RESOURCE_GROUP}" \
  --name "${CLUSTER_NAME}" \
  --enable-oidc-issuer \
  --enable-workload-identity \
  --generate-ssh-keys' provisioningState
keep AKS_OIDC_ISSUER 'az aks show --name "${CLUSTER_NAME}" --resource-group "${RESOURCE_GROUP}" --query oidcIssuerProfile.issuerUrl --output tsv'

chapter 'An identity that trusts a service account of it'
show 'az identity create --name "${USER_ASSIGNED_IDENTITY_NAME}" --resource-group "${RESOURCE_GROUP}" --location "${LOCATION}"' clientId
show 'az identity federated-credential create --name "${FEDERATED_IDENTITY_CREDENTIAL_NAME}" \
  --identity-name "${USER_ASSIGNED_IDENTITY_NAME}" \
  --resource-group "${RESOURCE_GROUP}" \
  --issuer "${AKS_OIDC_ISSUER}" \
  --subject system:serviceaccount:"${SERVICE_ACCOUNT_NAMESPACE}":"${SERVICE_ACCOUNT_NAME}" \
  --audience api://AzureADTokenExchange' subject

chapter 'A vault with a secret in it'
show 'az keyvault create --name "${KEYVAULT_NAME}" \
  --resource-group "${KEYVAULT_RESOURCE_GROUP}" \
  --location "${LOCATION}" \
  --enable-purge-protection \
  --enable-rbac-authorization' properties.vaultUri
keep KEYVAULT_RESOURCE_ID 'az keyvault show --resource-group "${KEYVAULT_RESOURCE_GROUP}" --name "${KEYVAULT_NAME}" --query id --output tsv'
USER_EMAIL=$(az account show --query user.name --output tsv)
show 'az role assignment create --assignee "${USER_EMAIL}" --role "Key Vault Secrets Officer" --scope "${KEYVAULT_RESOURCE_ID}"' principalType
show 'az keyvault secret set --vault-name "${KEYVAULT_NAME}" --name "${KEYVAULT_SECRET_NAME}" --value "Hello\!"' id
keep KEYVAULT_URL 'az keyvault show --name "${KEYVAULT_NAME}" --query properties.vaultUri --output tsv'
export SECRET_NAME=$KEYVAULT_SECRET_NAME

read_secret() { laz run --as default/workload-identity-sa --cluster "$CLUSTER_NAME" -- "$READER"; }
line='laz run --as default/workload-identity-sa --cluster "${CLUSTER_NAME}" -- keyvault-reader'

chapter "A program on Microsoft's own SDKs, before its identity has the role"
typed "$line"
if text=$(read_secret 2>&1); then printf '%s\n' "$text"; exit 1; fi
{ grep -m1 '^RESPONSE' <<<"$text"; grep -m1 -o '"code": "ForbiddenBy[A-Za-z]*"' <<<"$text"; } | sed "s/^/    $red✗$off $dim/; s/\$/$off/"
typed 'laz explain'
laz explain | fold -s -w 140 | sed "s/^/    $dim/; s/\$/$off/"

chapter 'With the role, on the next request, and no key anywhere'
keep IDENTITY_PRINCIPAL_ID 'az identity show --name "${USER_ASSIGNED_IDENTITY_NAME}" --resource-group "${RESOURCE_GROUP}" --query principalId --output tsv'
show 'az role assignment create \
  --assignee-object-id "${IDENTITY_PRINCIPAL_ID}" \
  --role "Key Vault Secrets User" \
  --scope "${KEYVAULT_RESOURCE_ID}" \
  --assignee-principal-type ServicePrincipal' principalType
typed "$line"
text=$(read_secret 2>&1) || { printf '%s\n' "$text"; exit 1; }
printf '    %s✓ %s%s\n' "$green" "$text" "$off"
grep -q 'successfully got secret" secret="Hello' <<<"$text"

if [ -n "$pods" ]; then
  chapter 'The same in a pod: real Kubernetes, the same service account'
  show 'az aks get-credentials --name "${CLUSTER_NAME}" --resource-group "${RESOURCE_GROUP}"'
  export USER_ASSIGNED_CLIENT_ID
  USER_ASSIGNED_CLIENT_ID=$(az identity show --name "$USER_ASSIGNED_IDENTITY_NAME" --resource-group "$RESOURCE_GROUP" --query clientId --output tsv)
  manifest="apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${SERVICE_ACCOUNT_NAME}
  namespace: ${SERVICE_ACCOUNT_NAMESPACE}
  annotations: {azure.workload.identity/client-id: \"${USER_ASSIGNED_CLIENT_ID}\"}
---
apiVersion: v1
kind: Pod
metadata:
  name: sample-workload-identity-key-vault
  namespace: ${SERVICE_ACCOUNT_NAMESPACE}
  labels: {azure.workload.identity/use: \"true\"}
spec:
  serviceAccountName: ${SERVICE_ACCOUNT_NAME}
  containers:
  - name: app
    image: ${IMAGE}
    env:
    - {name: KEYVAULT_URL, value: \"${KEYVAULT_URL}\"}
    - {name: SECRET_NAME, value: ${KEYVAULT_SECRET_NAME}}"
  typed "kubectl apply -f - <<EOF
$manifest
EOF"
  kubectl apply -f - <<<"$manifest" | sed "s/^/    $green→$off $dim/; s/\$/$off/"
  line='kubectl logs sample-workload-identity-key-vault'
  typed "$line"
  for ((tries = 0; tries < 240; tries++)); do
    text=$($line 2>&1) || true
    ! grep -q 'successfully got secret' <<<"$text" || break
    sleep 0.25
  done
  grep -q 'successfully got secret" secret="Hello' <<<"$text" || { printf '%s\n' "$text"; kubectl describe pod sample-workload-identity-key-vault | tail -20; exit 1; }
  grep -m1 'successfully got secret' <<<"$text" | sed "s/^/    $green✓ /; s/\$/$off/"
fi

typed 'laz down --purge'
took=$((${EPOCHREALTIME/[.,]/} - started))
printf '\n%sDone in %d.%02d s.%s A cloud to keep:  %sbin/laz up -d && eval "$(bin/laz env)"%s\n' \
  "$green" $((took / 1000000)) $((took / 10000 % 100)) "$off" "$bold" "$off"
