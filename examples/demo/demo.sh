#!/usr/bin/env bash
# The demo: document 003 as far as it needs no pod, against a Lazurite of its
# own. It keeps nothing and leaves no process behind.
#
#     make demo            or: LAZ=path/to/laz READER=path/to/keyvault-reader examples/demo/demo.sh
set -euo pipefail

: "${LAZ:=bin/laz}" "${READER:=bin/keyvault-reader}"
LAZ=$(realpath "$LAZ") READER=$(realpath "$READER")
LAZ_HOME=$(realpath -m "${DEMO_HOME:-.cache/demo}")
export LAZ_HOME

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' blue=$'\e[34m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'
else
  bold='' dim='' blue='' green='' red='' off=''
fi
started=${EPOCHREALTIME/[.,]/}
chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$off"; }
note() { printf '  %s%s%s\n' "$dim" "$1" "$off"; }
# show prints a command as it is typed, then runs it; what it prints comes indented below.
typed() {
  local word line='' quoted="^[A-Za-z0-9_@%+=:,./\\\\!{}*~^-]+\$"
  for word; do
    if [[ $word =~ $quoted ]]; then line+=" $word"; else line+=" '$word'"; fi
  done
  printf '  %s$%s%s\n' "$blue" "$off" "$line"
}
indent() { sed "s/^/    $dim/; s/\$/$off/"; }
show() { typed "$@"; "$@" 2>&1 | indent; }

stop() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    printf '\n%sThe demo stopped (exit %d). The end of the log:%s\n' "$red" "$status" "$off"
    tail -n 5 "$LAZ_HOME/log/laz.log" 2>/dev/null || true
  fi
  "$LAZ" down --purge --yes >/dev/null 2>&1 || true
  exit "$status"
}
trap stop EXIT

chapter 'A cloud of its own'
"$LAZ" down --purge --yes >/dev/null 2>&1 || true
typed laz up -d --offline
"$LAZ" up -d --offline --port 0 >/dev/null
note "ready; state in ${LAZ_HOME/#$HOME/\~}, gone when the demo ends; --offline: nothing leaves this machine"
typed eval '"$(laz env)"'
eval "$("$LAZ" env)"
note "az on this PATH is $(az version --query '"azure-cli"' --output tsv 2>/dev/null || echo laz), in a state folder; nothing of yours was touched"

chapter 'Who am I'
show az account show --query '{name: name, user: user.name, subscription: id}' --output table

export RESOURCE_GROUP=myResourceGroup LOCATION=eastus CLUSTER_NAME=myAKSCluster
export USER_ASSIGNED_IDENTITY_NAME=myIdentity KEYVAULT_SECRET_NAME=my-secret
KEYVAULT_NAME="myKeyVault$RANDOM"

chapter 'A cluster with an issuer, and an identity'
show az group create --name $RESOURCE_GROUP --location $LOCATION --query '{name: name, state: properties.provisioningState}' --output tsv
show az aks create --resource-group $RESOURCE_GROUP --name $CLUSTER_NAME --enable-oidc-issuer --enable-workload-identity --generate-ssh-keys \
  --query oidcIssuerProfile.issuerUrl --output tsv
AKS_OIDC_ISSUER=$(az aks show --name $CLUSTER_NAME --resource-group $RESOURCE_GROUP --query oidcIssuerProfile.issuerUrl --output tsv)
show az identity create --name $USER_ASSIGNED_IDENTITY_NAME --resource-group $RESOURCE_GROUP --location $LOCATION --query clientId --output tsv
show az identity federated-credential create --name myFedIdentity --identity-name $USER_ASSIGNED_IDENTITY_NAME --resource-group $RESOURCE_GROUP \
  --issuer "$AKS_OIDC_ISSUER" --subject system:serviceaccount:default:workload-identity-sa --audience api://AzureADTokenExchange --query subject --output tsv

chapter 'A vault with a secret'
show az keyvault create --name "$KEYVAULT_NAME" --resource-group $RESOURCE_GROUP --location $LOCATION --enable-purge-protection \
  --enable-rbac-authorization --query properties.vaultUri --output tsv
KEYVAULT_RESOURCE_ID=$(az keyvault show --resource-group $RESOURCE_GROUP --name "$KEYVAULT_NAME" --query id --output tsv)
show az role assignment create --assignee "$(az account show --query user.name --output tsv)" --role 'Key Vault Secrets Officer' \
  --scope "$KEYVAULT_RESOURCE_ID" --query roleDefinitionName --output tsv
show az keyvault secret set --vault-name "$KEYVAULT_NAME" --name $KEYVAULT_SECRET_NAME --value 'Hello\!' --query id --output tsv

KEYVAULT_URL=$(az keyvault show --resource-group $RESOURCE_GROUP --name "$KEYVAULT_NAME" --query properties.vaultUri --output tsv)
export KEYVAULT_URL SECRET_NAME=$KEYVAULT_SECRET_NAME
run() { laz run --as default/workload-identity-sa --cluster $CLUSTER_NAME -- "$READER"; }
line="laz run --as default/workload-identity-sa --cluster $CLUSTER_NAME -- keyvault-reader"

chapter 'Too early: the identity has no role yet'
printf '  %s$%s %s\n' "$blue" "$off" "$line"
if text=$(run 2>&1); then printf '%s\n' "$text"; exit 1; fi
grep -m1 -o 'ERROR CODE.*' <<<"$text" | sed "s/^/    $red/; s/\$/$off/" || fold -s -w 110 <<<"$text" | head -n 4 | indent
show laz explain

chapter "What was missing, and Microsoft's own SDKs with no key anywhere"
show az role assignment create --assignee-object-id "$(az identity show --name $USER_ASSIGNED_IDENTITY_NAME --resource-group $RESOURCE_GROUP --query principalId --output tsv)" \
  --role 'Key Vault Secrets User' --scope "$KEYVAULT_RESOURCE_ID" --assignee-principal-type ServicePrincipal --query roleDefinitionName --output tsv
printf '  %s$%s %s\n' "$blue" "$off" "$line"
text=$(run 2>&1) || { printf '%s\n' "$text"; exit 1; }
printf '    %s%s%s\n' "$green" "$text" "$off"
grep -q 'successfully got secret" secret="Hello' <<<"$text"

typed laz down --purge
took=$((${EPOCHREALTIME/[.,]/} - started))
printf '\n%sDone in %d.%02d s.%s Yours: %sbin/laz up -d && eval "$(bin/laz env)"%s\n' "$green" $((took / 1000000)) $((took / 10000 % 100)) "$off" "$bold" "$off"
