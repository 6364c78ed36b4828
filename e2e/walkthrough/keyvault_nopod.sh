#!/usr/bin/env bash
# Document 003 of the workload identity path, as far as it needs no pod: typed
# like the document, judged step by step. `az` on the PATH is laz.
#
#     laz run -- e2e/walkthrough/keyvault_nopod.sh
#
# READER is a program that reads SECRET_NAME of KEYVAULT_URL as a pod would
# (examples/keyvault-reader); without one that step reads through az.
set -uo pipefail

good=0 bad=0 out='' err=''
pass() { good=$((good + 1)); printf 'ok    %s\n' "$1"; }
miss() { bad=$((bad + 1)); printf 'FAIL  %s\n      %s\n' "$1" "${2:0:800}"; }

# does WHAT COMMAND…: it must succeed; $out keeps what it printed.
does() {
  local what=$1; shift
  local e; e=$(mktemp)
  if out=$("$@" 2>"$e"); then pass "$what"; else miss "$what" "$(<"$e") $out"; fi
  rm -f "$e"
}
# denied WHAT PATTERN COMMAND…: it must fail and give a reason that matches.
denied() {
  local what=$1 pattern=$2; shift 2
  if err=$("$@" 2>&1); then miss "$what" "it was let through: $err"
  elif grep -qE -- "$pattern" <<<"$err"; then pass "$what"
  else miss "$what" "no /$pattern/ in: $err"; fi
}
# looks WHAT VALUE PATTERN: the value must match.
looks() { if grep -qE -- "$3" <<<"$2"; then pass "$1"; else miss "$1" "not /$3/: $2"; fi; }

GUID='[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'

does 'account show' az account show
USER_EMAIL="$(az account show --query user.name --output tsv)"
does 'account set' az account set --subscription "$(az account show --query id --output tsv)"

export RESOURCE_GROUP="myResourceGroup"
export LOCATION="eastus"
export CLUSTER_NAME="myAKSCluster"
export SERVICE_ACCOUNT_NAMESPACE="default"
export SERVICE_ACCOUNT_NAME="workload-identity-sa"
export SUBSCRIPTION="$(az account show --query id --output tsv)"
export USER_ASSIGNED_IDENTITY_NAME="myIdentity"
export FEDERATED_IDENTITY_CREDENTIAL_NAME="myFedIdentity"
looks 'the subscription is a bare GUID in tsv' "$SUBSCRIPTION" "^$GUID\$"

does 'group create' az group create --name "${RESOURCE_GROUP}" --location "${LOCATION}"
looks 'group create prints what the document shows' "$(tr -d ' \n' <<<"$out")" \
  "^\{\"id\":\"/subscriptions/$GUID/resourceGroups/myResourceGroup\",\"location\":\"eastus\",\"managedBy\":null,\"name\":\"myResourceGroup\",\"properties\":\{\"provisioningState\":\"Succeeded\"\},\"tags\":null(,\"type\":\"Microsoft.Resources/resourceGroups\")?\}\$"
does 'group create again' az group create --name "${RESOURCE_GROUP}" --location "${LOCATION}"

does 'aks create' az aks create \
    --resource-group "${RESOURCE_GROUP}" \
    --name "${CLUSTER_NAME}" \
    --enable-oidc-issuer \
    --enable-workload-identity \
    --generate-ssh-keys
does 'aks update, which changes nothing' az aks update \
    --resource-group "${RESOURCE_GROUP}" \
    --name "${CLUSTER_NAME}" \
    --enable-oidc-issuer \
    --enable-workload-identity
export AKS_OIDC_ISSUER="$(az aks show --name "${CLUSTER_NAME}" \
    --resource-group "${RESOURCE_GROUP}" \
    --query "oidcIssuerProfile.issuerUrl" \
    --output tsv)"
looks 'the issuer has the documented shape' "$AKS_OIDC_ISSUER" "^https://eastus\\.oic\\.[^/]+/$GUID/$GUID/\$"
does 'the issuer publishes its discovery document' curl --silent --show-error --fail "${AKS_OIDC_ISSUER}.well-known/openid-configuration"
looks 'and names itself in it' "$out" "\"issuer\": ?\"$AKS_OIDC_ISSUER\""

does 'identity create' az identity create \
    --name "${USER_ASSIGNED_IDENTITY_NAME}" \
    --resource-group "${RESOURCE_GROUP}" \
    --location "${LOCATION}" \
    --subscription "${SUBSCRIPTION}"
export USER_ASSIGNED_CLIENT_ID="$(az identity show \
    --resource-group "${RESOURCE_GROUP}" \
    --name "${USER_ASSIGNED_IDENTITY_NAME}" \
    --query 'clientId' \
    --output tsv)"
looks 'the client id is a bare GUID in tsv' "$USER_ASSIGNED_CLIENT_ID" "^$GUID\$"

denied 'aks get-credentials: this cluster has no API server, and says so' 'API server' \
    az aks get-credentials --name "${CLUSTER_NAME}" --resource-group "${RESOURCE_GROUP}"

does 'federated-credential create' az identity federated-credential create \
    --name ${FEDERATED_IDENTITY_CREDENTIAL_NAME} \
    --identity-name "${USER_ASSIGNED_IDENTITY_NAME}" \
    --resource-group "${RESOURCE_GROUP}" \
    --issuer "${AKS_OIDC_ISSUER}" \
    --subject system:serviceaccount:"${SERVICE_ACCOUNT_NAMESPACE}":"${SERVICE_ACCOUNT_NAME}" \
    --audience api://AzureADTokenExchange

export KEYVAULT_RESOURCE_GROUP="myResourceGroup"
export KEYVAULT_NAME="myKeyVault$RANDOM"
does 'keyvault create' az keyvault create \
    --name "${KEYVAULT_NAME}" \
    --resource-group "${KEYVAULT_RESOURCE_GROUP}" \
    --location "${LOCATION}" \
    --enable-purge-protection \
    --enable-rbac-authorization
export KEYVAULT_RESOURCE_ID=$(az keyvault show --resource-group "${KEYVAULT_RESOURCE_GROUP}" \
    --name "${KEYVAULT_NAME}" \
    --query id \
    --output tsv)
export KEYVAULT_SECRET_NAME="my-secret"
denied 'an owner has no data role yet' '[Ff]orbidden' az keyvault secret set \
    --vault-name "${KEYVAULT_NAME}" --name "${KEYVAULT_SECRET_NAME}" --value "too early"
denied 'a role that does not exist is named' 'No Such Role' az role assignment create --assignee "${USER_EMAIL}" \
    --role "No Such Role" --scope "${KEYVAULT_RESOURCE_ID}"
does 'role assignment create by e-mail' az role assignment create --assignee "${USER_EMAIL}" \
    --role "Key Vault Secrets Officer" \
    --scope "${KEYVAULT_RESOURCE_ID}"
does 'keyvault secret set, on the next request' az keyvault secret set \
    --vault-name "${KEYVAULT_NAME}" \
    --name "${KEYVAULT_SECRET_NAME}" \
    --value "Hello\!"
export IDENTITY_PRINCIPAL_ID=$(az identity show \
    --name "${USER_ASSIGNED_IDENTITY_NAME}" \
    --resource-group "${RESOURCE_GROUP}" \
    --query principalId \
    --output tsv)
export KEYVAULT_URL="$(az keyvault show \
    --resource-group ${KEYVAULT_RESOURCE_GROUP} \
    --name ${KEYVAULT_NAME} \
    --query properties.vaultUri \
    --output tsv)"
looks 'the vault is at its public name' "$KEYVAULT_URL" '^https://[Mm]y[Kk]ey[Vv]ault[0-9]+\.vault\.[^/]+/$'

export SECRET_NAME="${KEYVAULT_SECRET_NAME}"
reader() {
  laz run --as "${SERVICE_ACCOUNT_NAMESPACE}/${SERVICE_ACCOUNT_NAME}" --cluster "${CLUSTER_NAME}" -- "$READER"
}
if [ -n "${READER:-}" ]; then
  denied 'the workload has no role yet' 'Forbidden' reader
  does 'laz explain says why' laz explain
  looks 'and which command mends it' "$out" 'role assignment create .*--role "Key Vault Secrets User"'
fi
explain() {
  laz explain --as "${SERVICE_ACCOUNT_NAMESPACE}/$1" --cluster "${CLUSTER_NAME}" --to "${KEYVAULT_URL}secrets/${SECRET_NAME}" 2>&1
}
looks 'explain foresees the refusal' "$(explain "${SERVICE_ACCOUNT_NAME}")" 'no +role'
looks 'and names a subject that differs in case' "$(explain Workload-Identity-SA)" '[Cc]ase'
does 'role assignment create by object id' az role assignment create \
    --assignee-object-id "${IDENTITY_PRINCIPAL_ID}" \
    --role "Key Vault Secrets User" \
    --scope "${KEYVAULT_RESOURCE_ID}" \
    --assignee-principal-type ServicePrincipal
looks 'explain foresees the success' "$(explain "${SERVICE_ACCOUNT_NAME}")" 'ok +role'
if [ -n "${READER:-}" ]; then
  does 'the workload reads the secret' bash -c 'laz run --as "$1" --cluster "$2" -- "$READER" 2>&1' - \
    "${SERVICE_ACCOUNT_NAMESPACE}/${SERVICE_ACCOUNT_NAME}" "${CLUSTER_NAME}"
  looks 'with the value that was set' "$out" 'successfully got secret" secret="Hello\\\\!"'
fi
does 'az shows the secret' az keyvault secret show --vault-name "${KEYVAULT_NAME}" --name "${KEYVAULT_SECRET_NAME}" --query value --output tsv
looks 'as it was set' "$out" '^Hello\\!$'

does 'aks update --disable-workload-identity' az aks update \
    --resource-group "${RESOURCE_GROUP}" \
    --name "${CLUSTER_NAME}" \
    --disable-workload-identity
does 'and it shows' az aks show --name "${CLUSTER_NAME}" --resource-group "${RESOURCE_GROUP}" --query securityProfile.workloadIdentity.enabled --output tsv
looks 'as disabled' "$out" '^(false)?$'

printf '%d passed, %d failed\n' "$good" "$bad"
[ "$bad" -eq 0 ]
