package org.approxifer.torchserve.ts;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.pytorch.serve.servingsdk.Context;
import org.pytorch.serve.servingsdk.ModelServerEndpoint;
import org.pytorch.serve.servingsdk.annotations.Endpoint;
import org.pytorch.serve.servingsdk.annotations.helpers.EndpointTypes;
import org.pytorch.serve.servingsdk.http.Request;
import org.pytorch.serve.servingsdk.http.Response;

/**
 * {@code PUT /coded/(model)?quarantine=(worker id)} and {@code ?readmit=(worker id)} on the
 * management port, so that who may ask for inference cannot take workers away. Parameters only:
 * TorchServe releases a plugin request's body before it is read.
 */
@Endpoint(
    urlPattern = "coded",
    endpointType = EndpointTypes.MANAGEMENT,
    description = "Quarantine a worker of a coded model, or readmit it")
public final class QuarantineEndpoint extends ModelServerEndpoint {
  private static final Gson GSON = new GsonBuilder().setPrettyPrinting().create();

  private final Watcher watcher = Watcher.start();

  @Override
  public void doPut(Request request, Response response, Context context) throws IOException {
    String[] segments = request.getRequestURI().split("\\?", 2)[0].split("/");
    String model = segments.length > 2 ? segments[2] : "";
    String quarantine = parameter(request, "quarantine");
    String readmit = parameter(request, "readmit");
    int status = 404;
    String message = "no coded model \"" + model + "\" has a worker ";
    if ((quarantine == null) == (readmit == null)) {
      status = 400;
      message = "expected one of the parameters quarantine and readmit, a worker's id each";
    } else {
      String worker = quarantine == null ? readmit : quarantine;
      for (Attachment attachment : watcher.attachments()) {
        if (attachment.model().getModelName().equals(model)
            && (quarantine == null
                ? attachment.router().readmit(worker)
                : attachment.router().quarantine(worker))) {
          status = 200;
          message = "worker " + worker + (quarantine == null ? " readmitted" : " quarantined");
        }
      }
      message = status == 404 ? message + worker + "; GET /coded lists them" : message;
    }
    response.setStatus(status);
    response.setContentType("application/json");
    Map<String, Object> body = new LinkedHashMap<>();
    body.put("code", status);
    body.put("message", message);
    response.getOutputStream().write(GSON.toJson(body).getBytes(StandardCharsets.UTF_8));
  }

  private static String parameter(Request request, String name) {
    List<String> values = request.getParameter(name);
    return values == null || values.isEmpty() ? null : values.get(0);
  }
}
