"""What one writes in an afternoon: FastAPI around sentence-transformers. `python plain_server.py MODEL PORT`"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(sys.argv[1], device="cpu")


class Body(BaseModel):
    inputs: list[str]


@app.post("/embed")
def embed(body: Body) -> list[list[float]]:
    return model.encode(body.inputs, normalize_embeddings=True).tolist()


@app.get("/health")
def health() -> str:
    return "ok"


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
