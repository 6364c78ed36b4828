#!/usr/bin/env bash
# The demo of the store: Microsoft's article on the AI service against a Lazurite of its own. A model
# writes a product's description for a pod that has no key; then its role is
# taken away. Without root there are no nodes: then the three services are
# processes, and the one that calls the model has the pod's identity. It keeps
# nothing and leaves no process behind; on a terminal it waits before it ends,
# so that the page can be opened.
#
#     make demo-openai     or: LAZ=path/to/laz examples/demo/openai.sh
set -euo pipefail

: "${LAZ:=bin/laz}"
LAZ=$(realpath "$LAZ")
bin=$(dirname "$LAZ")
LAZ_HOME=$(realpath -m "${DEMO_HOME:-.cache/demo-openai}")
images=lazurite.dev/examples/store
manifest=$(dirname "$(realpath "$0")")/../store/store.yaml
pods=
[ "$(id -u)" -ne 0 ] || pods=yes
HOME=$(mktemp -d) # az aks create writes there, as az does
export LAZ_HOME HOME

. "$(dirname "$0")/lib.sh"

# until_ok SECONDS COMMAND... repeats a command until it ends well, and shows what it said last if it never does.
until_ok() {
  local end=$((SECONDS + $1)) said; shift
  until said=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$end" ] || { printf '%s\n' "$said"; return 1; }
    sleep 0.25
  done
}

chapter 'A cloud of its own'
"$LAZ" down --purge --yes >/dev/null 2>&1 || true
typed 'laz up -d --offline'
"$LAZ" up -d --offline --port 0 >/dev/null
typed 'eval "$(laz env)"'
eval "$("$LAZ" env)"
if [ -n "$pods" ]; then
  for service in ai-service product-service store-admin; do
    show "laz image load bin/images/$service.tar" '' "laz image load $bin/images/$service.tar"
  done
fi
note "az is laz in this shell now. All state is in ${LAZ_HOME#"$PWD/"} and goes with the demo; nothing leaves this machine."

chapter 'An Azure OpenAI resource and a deployment of a model'
export RG_NAME=myResourceGroup AKS_NAME=myAKSCluster AOAI_NAME="store$RANDOM"
show 'az group create --name $RG_NAME --location eastus' properties.provisioningState
show 'az cognitiveservices account create --resource-group $RG_NAME --name $AOAI_NAME \
  --location eastus --kind OpenAI --sku s0 --custom-domain $AOAI_NAME' properties.endpoint
show 'az cognitiveservices account deployment create --resource-group $RG_NAME --name $AOAI_NAME \
  --deployment-name description --model-name gpt-4o-mini --model-version 2024-07-18 --model-format OpenAI \
  --sku-capacity 10 --sku-name Standard' properties.provisioningState
note 'No model is configured here, so the built-in one answers: small, part of laz, and it writes product descriptions only.'

chapter 'A cluster whose service accounts have identities'
[ -n "$pods" ] || note 'Without root this cluster has an issuer and no nodes. `sudo make demo-openai` runs the store in pods.'
note "Typed as in Microsoft's article; of each answer one line is shown."
show 'az aks create --resource-group $RG_NAME --name $AKS_NAME --generate-ssh-keys' provisioningState
show 'az aks update \
  --resource-group $RG_NAME \
  --name $AKS_NAME \
  --enable-workload-identity \
  --enable-oidc-issuer' provisioningState
keep AKS_OIDC_ISSUER 'az aks show --resource-group $RG_NAME --name $AKS_NAME --query "oidcIssuerProfile.issuerUrl" -o tsv'

chapter 'An identity that may call the model, and nothing else'
export MANAGED_IDENTITY_NAME=myIdentity
show 'az identity create \
  --name $MANAGED_IDENTITY_NAME \
  --resource-group $RG_NAME' name
keep MANAGED_IDENTITY_CLIENT_ID 'az identity show --resource-group $RG_NAME --name $MANAGED_IDENTITY_NAME --query clientId -o tsv'
keep MANAGED_IDENTITY_OBJECT_ID 'az identity show --resource-group $RG_NAME --name $MANAGED_IDENTITY_NAME --query principalId -o tsv'
keep AOAI_RESOURCE_ID 'az resource list --resource-group $RG_NAME --resource-type Microsoft.CognitiveServices/accounts --query "[0].id" -o tsv'
show 'az role assignment create \
  --role "Cognitive Services OpenAI User" \
  --assignee-object-id $MANAGED_IDENTITY_OBJECT_ID \
  --assignee-principal-type ServicePrincipal \
  --scope $AOAI_RESOURCE_ID' principalType
export FEDERATED_CREDENTIAL_NAME=myFederatedCredential SERVICE_ACCOUNT_NAMESPACE=default SERVICE_ACCOUNT_NAME=ai-service-account
show 'az identity federated-credential create \
  --name ${FEDERATED_CREDENTIAL_NAME} \
  --resource-group ${RG_NAME} \
  --identity-name ${MANAGED_IDENTITY_NAME} \
  --issuer ${AKS_OIDC_ISSUER} \
  --subject system:serviceaccount:${SERVICE_ACCOUNT_NAMESPACE}:${SERVICE_ACCOUNT_NAME}' subject
keep AOAI_ENDPOINT 'az cognitiveservices account show --resource-group $RG_NAME --name $AOAI_NAME --query properties.endpoint -o tsv'
keep AOAI_DEPLOYMENT_NAME 'az cognitiveservices account deployment list --resource-group $RG_NAME --name $AOAI_NAME --query "[0].name" -o tsv'

if [ -n "$pods" ]; then
  chapter 'The store, in pods: one of them has that identity, none has a key'
  show 'az aks get-credentials --resource-group $RG_NAME --name $AKS_NAME'
  typed 'envsubst < examples/store/store.yaml | kubectl apply -f -'
  filled=$(<"$manifest")
  for name in MANAGED_IDENTITY_CLIENT_ID AOAI_DEPLOYMENT_NAME AOAI_ENDPOINT; do filled=${filled//"\${$name}"/${!name}}; done
  kubectl apply -f - <<<"$filled" | sed "s/^/    $green→$off $dim/; s/\$/$off/"
  until_ok 120 kubectl wait --for=condition=Ready pod --selector app=ai-service --timeout=2s
  show 'kubectl logs --selector app=ai-service'
  until_ok 60 sh -c "kubectl get svc/store-admin -o jsonpath='{.status.loadBalancer.ingress[0].ip}' | grep -q ."
  typed "echo \"http://\$(kubectl get svc/store-admin -o jsonpath='{.status.loadBalancer.ingress[0].ip}')\""
  admin=http://$(kubectl get svc/store-admin -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
else
  chapter 'The store, as processes: one of them has that identity, none has a key'
  free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null || echo $((20000 + RANDOM)); }
  ai=$(free) products=$(free) page=$(free)
  typed "laz run --as default/ai-service-account --cluster \$AKS_NAME -- ai-service &"
  PORT=$ai USE_AZURE_OPENAI=True USE_AZURE_AD=True AZURE_OPENAI_ENDPOINT=$AOAI_ENDPOINT AZURE_OPENAI_DEPLOYMENT_NAME=$AOAI_DEPLOYMENT_NAME \
    "$LAZ" run --as default/ai-service-account --cluster "$AKS_NAME" -- "$bin/ai-service" >"$LAZ_HOME/store.log" 2>&1 & services+=($!)
  PORT=$products AI_SERVICE_URL=http://127.0.0.1:$ai/ "$bin/product-service" >>"$LAZ_HOME/store.log" 2>&1 & services+=($!)
  PORT=$page PRODUCT_SERVICE_URL=http://127.0.0.1:$products/ "$bin/store-admin" >>"$LAZ_HOME/store.log" 2>&1 & services+=($!)
  admin=http://127.0.0.1:$page
fi
until_ok 60 curl -fsS --noproxy '*' -o /dev/null "$admin/api/ai/health"
printf '    %s→ %sthe store admin page: %s%s\n' "$green" "$bold" "$admin" "$off"

ask() {
  curl -sS --noproxy '*' -X POST "$admin/api/ai/generate/description" -H 'Content-Type: application/json' \
    -d '{"name":"Salty Sailor rope","tags":["dog","toy","rope"]}'
}
line="curl -X POST $admin/api/ai/generate/description -H 'Content-Type: application/json' \\
  -d '{\"name\":\"Salty Sailor rope\",\"tags\":[\"dog\",\"toy\",\"rope\"]}'"
typed "$line"
text=$(ask)
grep -q '"description"' <<<"$text" || { printf '%s\n' "$text"; exit 1; }
printf '    %s✓ %s%s\n' "$green" "$text" "$off"
if [ -t 0 ] && [ -t 1 ]; then
  read -rp "  ${bold}Open $admin, add a product and press Ask AI.${off} Then press Enter here: its role goes. " _
fi

chapter 'The role taken away: nothing is started again, and its next call is refused'
show 'az role assignment delete --assignee $MANAGED_IDENTITY_OBJECT_ID \
  --role "Cognitive Services OpenAI User" --scope $AOAI_RESOURCE_ID'
typed "$line"
text=$(ask)
! grep -q '"description"' <<<"$text" || { printf '%s\n' "$text"; exit 1; }
grep -q PermissionDenied <<<"$text" || { printf '%s\n' "$text"; exit 1; }
printf '    %s✗%s %s%s%s\n' "$red" "$off" "$dim" "$text" "$off"
typed 'laz explain'
laz explain | fold -s -w 140 | sed "s/^/    $dim/; s/\$/$off/"
if [ -t 0 ] && [ -t 1 ]; then
  read -rp "  ${bold}The page says it, too.${off} Press Enter to end: everything goes. " _
fi

typed 'laz down --purge'
took=$((${EPOCHREALTIME/[.,]/} - started))
printf '\n%sDone in %d.%02d s.%s A cloud to keep:  %sbin/laz up -d && eval "$(bin/laz env)"%s, then docs/openai.md\n' \
  "$green" $((took / 1000000)) $((took / 10000 % 100)) "$off" "$bold" "$off"
